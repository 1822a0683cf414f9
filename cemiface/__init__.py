"""CemiFace (Sun et al., NeurIPS 2024, arXiv 2409.18876) in plain torch: the method, without files and clusters."""
