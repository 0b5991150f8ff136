"""What the pages share: who may come in, events, serving, and the looks."""
