"""What map_node is made of: parameters, messages, storage, and the outputs that ask the map."""
