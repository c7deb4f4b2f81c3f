"""Real video to training clips: finding it, preparing it in many processes, packing it into shards."""
