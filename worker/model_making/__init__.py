"""Making model directories: exported, quantised, measured, inspected. No part of the stream."""
