"""avsl_eval: the scorer of audio-visual source localization."""
