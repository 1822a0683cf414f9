"""The methods: a folder each, with the method's own stages and its `METHOD`."""
