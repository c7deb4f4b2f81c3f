"""Routes of what is made by workers: videos, and motion alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from triportrait.app.access import client_of
from triportrait.app.jobs import new_id
from triportrait.app.schemas import ApiError, Job, MotionForm, VideoForm, VideoOptions, first_fault
from triportrait.app.store import MEDIA_BYTES, Store
from triportrait.app.uploads import Upload, form_body, received
from triportrait.app.webhooks import Webhooks
from triportrait.app.worker import FORMATS, VARIANTS, made_file

#: Videos' events are looked for so often.
_EVENTS_S = 0.3
_WAITING = ("queued", "in_progress")
_MEDIA = {"audio": MEDIA_BYTES, "driving": MEDIA_BYTES}
_VIDEO = _MEDIA | {"motion": MEDIA_BYTES}
Order = Literal["asc", "desc"]


def add_videos(app: FastAPI, store: Store, webhooks: Webhooks) -> None:
    """Videos, in the shape of OpenAI's videos API."""
    find = _finder(store, "vid", "video")

    @app.post("/v1/videos", status_code=202, openapi_extra=form_body(VideoForm, dict.fromkeys(_VIDEO, False)))
    async def add_video(request: Request, idempotency_key: Annotated[str | None, Header(max_length=200)] = None) -> dict[str, Any]:
        client = client_of(request)
        async with received(request, store.folder / "incoming", _VIDEO) as form:
            asked = form.read(VideoForm)
            found = await run_in_threadpool(store.avatar, asked.avatar, client)
            kind, driver = _one_of(form.files, _VIDEO)
            options = _options_of(asked.options)
            if asked.webhook is not None:
                webhooks.check(asked.webhook)
            new = client, found.id, kind, options.model_dump(), new_id("vid"), idempotency_key, asked.webhook
            job = await run_in_threadpool(_take, store, driver, *new)
            return job.answer(await run_in_threadpool(store.jobs.position, job))

    _add_list(app, store, "/v1/videos", "vid_")

    @app.get("/v1/videos/{video_id}")
    def video(request: Request, video_id: str) -> dict[str, Any]:
        job = find(request, video_id)
        return job.answer(store.jobs.position(job))

    @app.delete("/v1/videos/{video_id}")
    def remove_video(request: Request, video_id: str) -> dict[str, Any]:
        return _removed(store, find(request, video_id))

    @app.get("/v1/videos/{video_id}/content", response_class=FileResponse)
    def content(request: Request, video_id: str, variant: Literal["video", "thumbnail", "motion", "livelink"] = "video") -> FileResponse:
        job = find(request, video_id)
        name = made_file(job) if variant == "video" else VARIANTS[variant]
        return _content(store, job, name)

    @app.get("/v1/videos/{video_id}/events", response_class=StreamingResponse)
    async def events(request: Request, video_id: str) -> StreamingResponse:
        await run_in_threadpool(find, request, video_id)
        return StreamingResponse(_events(store, request, video_id), media_type="text/event-stream")


def add_motions(app: FastAPI, store: Store) -> None:
    """Motion of a voice or of the person in a video, as a file; in the shape of videos."""
    find = _finder(store, "mot", "motion")

    @app.post("/v1/motions", status_code=202, openapi_extra=form_body(MotionForm, dict.fromkeys(_MEDIA, False)))
    async def add_motion(request: Request, idempotency_key: Annotated[str | None, Header(max_length=200)] = None) -> dict[str, Any]:
        client = client_of(request)
        async with received(request, store.folder / "incoming", _MEDIA) as form:
            asked = form.read(MotionForm)
            kind, driver = _one_of(form.files, _MEDIA)
            options = {"format": asked.format}
            # The same key stands for one video and one motion.
            key = None if idempotency_key is None else f"motion {idempotency_key}"
            job = await run_in_threadpool(_take, store, driver, client, "", kind, options, new_id("mot"), key, None)
            return job.answer(await run_in_threadpool(store.jobs.position, job))

    _add_list(app, store, "/v1/motions", "mot_")

    @app.get("/v1/motions/{motion_id}")
    def motion(request: Request, motion_id: str) -> dict[str, Any]:
        job = find(request, motion_id)
        return job.answer(store.jobs.position(job))

    @app.delete("/v1/motions/{motion_id}")
    def remove_motion(request: Request, motion_id: str) -> dict[str, Any]:
        return _removed(store, find(request, motion_id))

    @app.get("/v1/motions/{motion_id}/content", response_class=FileResponse)
    def motion_content(request: Request, motion_id: str) -> FileResponse:
        job = find(request, motion_id)
        return _content(store, job, made_file(job))


def _finder(store: Store, kind: str, noun: str) -> Callable[[Request, str], Job]:
    def find(request: Request, job_id: str) -> Job:
        job = store.jobs.get(job_id, client_of(request)) if job_id.startswith(f"{kind}_") else None
        if job is None:
            raise ApiError("E_NOT_FOUND", f"There is no such {noun}.", "id", "It is deleted after a day; ask for it anew.")
        return job

    return find


def _one_of(files: dict[str, Upload], kinds: Iterable[str]) -> tuple[str, Upload]:
    if len(files) != 1:
        wanted = "Send a voice as audio, or a video of somebody to imitate as driving, or a motion file as motion."
        remedy = wanted if "motion" in kinds else wanted.rpartition(",")[0]
        raise ApiError("E_OPTION", f"There is not exactly one of {', '.join(kinds)}.", "audio", remedy)
    return next(iter(files.items()))


def _options_of(text: str) -> VideoOptions:
    try:
        return VideoOptions.model_validate_json(text)
    except ValidationError as error:
        raise first_fault([{"loc": ("options", *one["loc"]), "msg": one["msg"]} for one in error.errors()]) from None


def _take(
    store: Store,
    driver: Upload,
    client: str,
    avatar: str,
    kind: str,
    options: dict[str, Any],
    job_id: str,
    idempotency: str | None,
    webhook: str | None,
) -> Job:
    """Put the upload where the worker looks for it, then write the job: a restart loses nothing."""
    folder = store.video_folder(job_id)
    job = None
    try:
        folder.mkdir()
        driver.path.replace(folder / "driver")
        job = store.jobs.add(client, avatar, kind, options, job_id, idempotency, webhook)
        return job
    except OSError:
        raise ApiError("E_NO_SPACE", "The server has no room for the file.", kind, "Try again later.") from None
    finally:
        # A job that was refused, or that was there already, has no use for what came with it.
        if job is None or job.id != job_id:
            shutil.rmtree(folder, ignore_errors=True)


def _add_list(app: FastAPI, store: Store, path: str, kind: str) -> None:
    @app.get(path)
    def listed(request: Request, limit: int = 20, after: str | None = None, order: Order = "desc") -> dict[str, Any]:
        count = min(max(limit, 1), 100)
        jobs = store.jobs.of_client(client_of(request), count + 1, after, kind=kind, newest_first=order == "desc")
        data = [job.answer(store.jobs.position(job)) for job in jobs[:count]]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(jobs) > count}


def _removed(store: Store, job: Job) -> dict[str, Any]:
    """Cancel a job that waits or runs, forget one that has ended."""
    if job.state in _WAITING:
        store.jobs.cancel(job.id)
    else:
        shutil.rmtree(store.video_folder(job.id), ignore_errors=True)
        store.jobs.forget(job.id)
    kind = "motion" if job.id.startswith("mot_") else "video"
    return {"id": job.id, "object": f"{kind}.deleted", "deleted": True}


def _content(store: Store, job: Job, name: str) -> FileResponse:
    if job.state != "completed":
        raise ApiError("E_NOT_READY", "It is not ready.", "id", "Ask again when its status is completed.")
    path = store.video_folder(job.id) / name
    if not path.is_file():
        raise ApiError("E_NOT_FOUND", "This video has no such variant.", "variant", "Ask for the variant video.")
    ending = "".join(Path(name).suffixes)
    return FileResponse(path, media_type=FORMATS[ending], filename=f"{job.id}{ending}")


async def _events(store: Store, request: Request, job_id: str) -> AsyncIterator[str]:
    said = None
    while not await request.is_disconnected():
        job = await run_in_threadpool(store.jobs.get, job_id)
        if job is None:
            return
        now = job.answer(await run_in_threadpool(store.jobs.position, job))
        if now != said:
            said = now
            kind = job.state if job.state in ("completed", "failed") else "progress"
            yield f"id: {job.progress}\nevent: {kind}\ndata: {json.dumps(now)}\n\n"
        if job.state in ("completed", "failed"):
            return
        await asyncio.sleep(_EVENTS_S)
