"""Face recognition: nets and their weights, margins, class head, augmentation, verification and scores."""
