//! Starts the actors, restarts them, stops them in phases; the only place that spawns.
