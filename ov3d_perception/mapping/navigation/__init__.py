"""Navigation outputs of the map: costs and approach poses."""
