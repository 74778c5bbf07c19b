"""Latents that other systems have encoded, as a store; and a store in the forms that other systems read."""
