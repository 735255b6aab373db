"""What a user starts beside the nodes: starter without ``launch``, player, recorder, client, viewer, doctor, demo."""
