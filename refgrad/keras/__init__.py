"""Reading Keras files: the only room that knows how any version of Keras spells things."""
