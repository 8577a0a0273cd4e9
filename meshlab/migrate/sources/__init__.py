"""The older layouts: what each file means, as records, and how to write it again."""
