"""`roomgrad check`: whether a component, in any language, answers gradients that are true."""
