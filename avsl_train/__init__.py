"""avsl_train: semi-supervised audio-visual source localization."""
