"""What a user starts beside the nodes: player, recorder, client, viewer, demo."""
