# What the table still lacks; nothing follows where it is whole.
