"""The one loop and what it needs; knows tasks and states, knows no model."""
