"""Cameras that record beside a measurement on a box."""

import asyncio

import aiohttp

from services.onebox.box import OneBox


async def all_recording(box: OneBox, cameras: int, http: aiohttp.ClientSession) -> None:
    """Wait until every camera records, so that the load is there."""
    endpoints = box.endpoints()
    headers = {"Authorization": f"Bearer {endpoints.tokens['operator']}"}
    async with asyncio.timeout(60):
        while True:
            async with http.get(f"{endpoints.gateway}/api/v1/city", headers=headers) as answer:
                devices = (await answer.json())["devices"]
            if sum(device["state"] == "recording" for device in devices) >= cameras:
                return
            await asyncio.sleep(0.5)
