"""The only importers of av in ingest: pictures are decoded here, off the recording path."""
