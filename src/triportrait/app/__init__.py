"""The server: a page for people, REST for programs, a socket for conversations."""
