"""Every metric of archive, by stage. Labels are closed sets."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ArchiveMetrics:
    """Instruments made on an injected registry, so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.fragments = Counter(
            "safealley_archive_segmenter_fragments_total", "Fragments read, by verdict.", ["verdict"], registry=registry
        )
        self.cuts = Counter(
            "safealley_archive_segmenter_cuts_total", "Segments closed, by reason.", ["reason"], registry=registry
        )
        self.chunks_held_bytes = Gauge(
            "safealley_archive_chunks_held_bytes", "Chunks of fragments that are not whole yet.", registry=registry
        )
        self.chunks_given_up = Counter(
            "safealley_archive_chunks_given_up_fragments_total",
            "Fragments whose chunks did not all come, by the reason why they were given up.",
            ["why"],
            registry=registry,
        )
        self.open_segments = Gauge(
            "safealley_archive_open_tail_segments", "Segments in scratch, open or not stored yet.", registry=registry
        )
        self.scratch_bytes = Gauge("safealley_archive_scratch_bytes", "Bytes in scratch.", registry=registry)
        self.upload_seconds = Histogram(
            "safealley_archive_upload_seconds",
            "One segment into the store and its row into the catalog.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0),
            registry=registry,
        )
        self.upload_retries = Counter(
            "safealley_archive_upload_retries_total",
            "Failed attempts to store a segment or its row.",
            registry=registry,
        )
        self.stored_bytes = Counter("safealley_archive_writer_stored_bytes_total", "Bytes stored.", registry=registry)
        self.pending_bytes = Gauge(
            "safealley_archive_pending_bytes", "Bytes of closed segments that are not stored yet.", registry=registry
        )
        self.oldest_pending_seconds = Gauge(
            "safealley_archive_oldest_pending_seconds",
            "Age of the oldest closed segment not stored.",
            registry=registry,
        )
        self.key_conflicts = Counter(
            "safealley_archive_writer_key_conflicts_total",
            "Segments whose key or seqs were there with other bytes; the first version stays.",
            registry=registry,
        )
        self.gaps = Counter(
            "safealley_archive_gaps_total", "Gaps that archive found itself, by cause.", ["cause"], registry=registry
        )
        self.held = Gauge(
            "safealley_archive_recorder_held_partitions",
            "Partitions of `video` not read: scratch, store or disk is full, or too many records cannot be read.",
            registry=registry,
        )
        self.lag_records = Gauge(
            "safealley_archive_recorder_lag_records", "Records of `video` not read yet.", registry=registry
        )
        self.lag_seconds = Gauge(
            "safealley_archive_recorder_lag_seconds",
            "Age of the record of `video` read last, of the partition most behind; 0 where nothing waits.",
            registry=registry,
        )
        self.commits = Counter(
            "safealley_archive_recorder_commits_total", "Commits of `video`, by result.", ["result"], registry=registry
        )
        self.kept = Counter(
            "safealley_archive_keeper_records_total", "Records of other topics kept.", ["topic"], registry=registry
        )
        self.views = Counter(
            "safealley_archive_api_views_total", "Looks at recorded pictures.", ["action", "result"], registry=registry
        )
        self.clip_bytes = Counter("safealley_archive_clip_bytes_total", "Bytes of clips made.", registry=registry)
        self.clip_seconds = Histogram(
            "safealley_archive_clip_seconds",
            "From a clip's turn to its first byte: the whole file is made before.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0),
            registry=registry,
        )
        self.access_records = Gauge(
            "safealley_archive_audit_waiting_records",
            "Access records on disk that Kafka has not taken yet; looks are refused at 10,000.",
            registry=registry,
        )
        self.access_records_lost = Counter(
            "safealley_archive_audit_lost_records_total",
            "Access records that were not kept: of denied looks beyond 20,000 waiting ones, or refused by Kafka.",
            registry=registry,
        )
        self.unknown_seconds = Counter(
            "safealley_archive_timeline_unknown_seconds_total",
            "Time that a timeline answered as unknown; each look counts.",
            registry=registry,
        )
