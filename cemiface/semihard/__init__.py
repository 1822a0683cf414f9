"""CemiFace: condition on identity and m, similarity loss, calibration of m, selection of identities."""
