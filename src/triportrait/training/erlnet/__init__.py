"""The learned manner of ERLNet's reconstruction: data, networks, and the stage that trains them."""
