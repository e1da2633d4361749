"""Pages of examples, a file an evaluation: what the model made of some of its inputs."""
