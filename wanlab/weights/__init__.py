"""Files of weights: what is in them, which model that is, and its tensors under diffusers' names.

    headers        a file -> names, formats and shapes of its tensors, and where their bytes are
    layouts        the names that different programs give to one tensor -> diffusers' name
    parameters     a configuration -> the names and shapes that the model's class has
    architecture   names and shapes -> configuration, variant, precision, what is missing
    registry       the checkpoints that were published, with their official defaults
    inspection     all of that as an answer to "what is this file?"
    reader         the tensors themselves (the only one that needs torch)

A checkpoint of 14 billion parameters is understood from the first few hundred kilobytes, in milliseconds, on any machine.
"""
