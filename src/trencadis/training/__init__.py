"""From captioned pictures to a model: one loop, one file a stage, and all that a run keeps."""
