"""An embedded Apache Kafka: the real one, from Python packages and checked jars. For the demo and the tests."""
