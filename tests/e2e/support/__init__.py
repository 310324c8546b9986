"""What the end-to-end tests and the conformance comparison share: paths, processes, the gateway under test."""
