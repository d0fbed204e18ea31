"""Publishing to Kafka: texts and labels, from files, standard input, or the sample that comes along."""
