"""Tools of the Model Context Protocol over TriPortrait's REST server."""
