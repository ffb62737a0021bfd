"""What we do about it and whether it worked: actions, their effect, what was learned."""
