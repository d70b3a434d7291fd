"""Pure numeric functions and modules that two systems or more share."""
