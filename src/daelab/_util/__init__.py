"""Helpers that do not depend on images.

The modules:

    config        frozen settings, read from TOML and validated
    distributed   several processes that train or evaluate together
    files         files that are written completely or not at all
    hardware      the device, the precision, the allocator and the versions of libraries
    memory        amounts of memory
    plugins       rows that other packages add to tables; Python objects by their names
    tensor_file   tensors with a JSON header in a safetensors file
    text          texts of foreign origin, made fit for messages
    work_sharing  the division of work among processes
"""
