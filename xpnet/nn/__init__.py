"""The network: parameters, forward, backward, initialisation, and the file it is kept in."""
