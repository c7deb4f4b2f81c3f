"""The photograph carried by the fitted head: what moves is re-projected, relit and closed."""
