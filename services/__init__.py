"""safealley: cameras, bells and lights of a city in; alerts to people and evidence to auditors out.

Read in this order: `contracts/topics.py` (what is said), then the `app.py` of each service (who says it).

    ingest     cameras, bells and lights in      -> video, streams, alarms, claims
    alerting   decides, remembers, escalates     -> alerts, alert-events
    gateway    between Kafka and people          -> operator-commands, audit
    archive    evidence for auditors             -> objects, catalog, audit

Beside them `onebox` runs all of it on one machine and `simulators` stand in for a city's devices.
"""
