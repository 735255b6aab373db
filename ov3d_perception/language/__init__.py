"""Words and pictures in one space: image-text encoders, dense image features, prompts, vocabularies, stored texts."""
