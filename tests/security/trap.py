"""A module that nothing may import because a row names it: it says so when it is."""

raise AssertionError("a name in a row has led to an import")
