"""Inside of the mouth: its parts, the photo's own teeth, and the painter of the light between the lips."""
