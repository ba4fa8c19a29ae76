"""Whether targets mean what graphite-web says: random cases, and the comparison."""
