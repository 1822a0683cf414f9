"""The nets and maths of CemiFace (Sun et al., NeurIPS 2024, arXiv 2409.18876) in plain torch, without run folders."""
