"""gateway: between Kafka and people, one origin for the page.

    alerts, streams, claims, devices -> view -> alert_stream -> window
    POST                             -> commands -> operator-commands
    ingest's live port               -> live_relay -> window

It decides nothing and keeps nothing: any replica can answer, and a restart loses no state.
"""
