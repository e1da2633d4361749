"""What can be asked under which address."""

import asyncio
import importlib.resources
import time
import urllib.parse
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from vlmo_jax.search import questions
from vlmo_jax.search.questions import Hit, QueryError, Term
from vlmo_jax.search.server.asked import (
    RESULTS,
    AboutAnswer,
    Answer,
    Asked,
    Filters,
    Health,
    Id,
    NamedPicture,
)
from vlmo_jax.search.server.batching import Batcher
from vlmo_jax.search.server.catalogue import Catalogue, result_of
from vlmo_jax.search.server.limits import Limits, RefusalError, busy
from vlmo_jax.search.server.metrics import Metrics
from vlmo_jax.search.server.served import Newest
from vlmo_jax.search.server.uploads import Uploads, read_upload

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
_ASK_AGAIN = {"Cache-Control": "no-cache"}
_PICTURE_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {"picture": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
Responses: TypeAlias = dict[int | str, dict[str, Any]]
_REFUSALS: Responses = {
    status: {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}
    for status, text in (
        (404, "There is no such picture."),
        (410, "An uploaded picture is no longer kept."),
        (413, "Too large."),
        (415, "No picture."),
        (422, "A parameter cannot be as it is."),
        (503, "Too many ask at once; Retry-After says when to ask again."),
    )
}


class Routes:
    """The routes of a server over one index.

    Args:
        newest: index, with its model.
        limits: bounds.
        metrics: counts.
    """

    def __init__(self, newest: Newest, limits: Limits, metrics: Metrics) -> None:
        self._newest, self._limits, self._metrics = newest, limits, metrics
        self._uploads, self._started = Uploads(limits), time.monotonic()
        self._decoding, self._coming = asyncio.Semaphore(1), 0
        self.batcher = Batcher[questions.Query, list[Hit] | QueryError](
            self._search_many,
            size=limits.batch,
            waiting=limits.waiting,
            seconds=limits.answer_seconds,
            told=metrics.batch_queries.observe,
        )
        metrics.watch("pictures", "Pictures of the index.", self._count)
        metrics.watch("waiting", "Queries that wait.", lambda: self.batcher.waiting)
        metrics.watch("uploads", "Uploaded pictures that are kept.", lambda: len(self._uploads))

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter()

        def get(path: str, answer: Any, *statuses: int, **options: Any) -> None:
            responses: Responses = {status: _REFUSALS[status] for status in statuses}
            router.add_api_route(path, answer, methods=["GET"], responses=responses, **options)

        jpeg = {"response_class": Response}
        get("/search", self.search, 404, 410, 422, 503)
        router.add_api_route(
            "/search",
            self.search_by_picture,
            methods=["POST"],
            status_code=303,
            response_class=RedirectResponse,
            responses={status: _REFUSALS[status] for status in (413, 415, 422, 503)},
            openapi_extra=_PICTURE_FORM,
        )
        get("/pictures/{picture_id}/thumbnail", self.thumbnail, 404, **jpeg)
        get("/pictures/{picture_id}/original", self.original, 404, **jpeg)
        get("/uploads/{upload_id}", self.uploaded, 410, **jpeg)
        get("/about", self.about)
        get("/health", self.health)
        get("/metrics", self.metrics, response_class=Response)
        for path, (name, kind) in _PAGE.items():
            get(path, _static(name, kind), include_in_schema=False)
        return router

    async def search(self, asked: Annotated[Asked, Query()]) -> Answer:
        """Finds pictures by texts and pictures."""
        begin = time.perf_counter()
        searcher, catalogue = self._newest.now
        terms, pictures, cut = self._terms(asked), _named(asked, catalogue), []
        last = asked.skip + asked.count
        if terms:
            query = self._query(asked, terms)
            cut = searcher.cut_texts(query)
            hits = (await self._ask(query))[asked.skip :]
        else:
            hits = await run_in_threadpool(catalogue.newest, asked)
        return Answer(
            results=[result_of(hit) for hit in hits[: asked.count]],
            next=last if len(hits) > asked.count and last < RESULTS else None,
            pictures=pictures,
            cut=cut,
            milliseconds=round(1000 * (time.perf_counter() - begin), 2),
        )

    async def search_by_picture(
        self, request: Request, filters: Annotated[Filters, Query()]
    ) -> RedirectResponse:
        """Takes a picture, keeps it for a while, and leads to the search for others like it."""
        if self._coming >= self._limits.uploads_at_once:
            raise busy()
        self._coming += 1
        try:
            data = await _picture_of(request)
            async with self._decoding:
                preprocess = self._newest.now.searcher.model.preprocess
                upload = await run_in_threadpool(read_upload, data, preprocess, self._limits)
        finally:
            self._coming -= 1
        asked = filters.model_dump(mode="json", exclude_unset=True)
        asked = {
            name: str(value).lower() if value is True else value for name, value in asked.items()
        }
        address = urllib.parse.urlencode({**asked, "upload": self._uploads.add(upload)})
        return RedirectResponse(f"/search?{address}", 303)

    def thumbnail(self, picture_id: Id, v: str | None = None) -> Response:
        """A small JPEG of a picture of the index. With `v`, as in results, it may be kept."""
        data = self._newest.now.catalogue.thumbnail(picture_id)
        return Response(data, media_type="image/jpeg", headers=_KEEP if v else _ASK_AGAIN)

    def original(self, picture_id: Id) -> FileResponse:
        """The file of a picture of the index."""
        path, kind = self._newest.now.catalogue.original(picture_id)
        return FileResponse(path, media_type=kind, headers=_ASK_AGAIN)

    async def uploaded(self, upload_id: Id) -> Response:
        """A small JPEG of a picture that was uploaded."""
        data = self._uploads.get(upload_id).thumbnail
        return Response(data, media_type="image/jpeg", headers=_ASK_AGAIN)

    def about(self) -> AboutAnswer:
        """What can be searched."""
        return self._newest.now.catalogue.about

    async def health(self) -> Health:
        """How the server is."""
        return Health(
            status="ok",
            pictures=self._count(),
            waiting=self.batcher.waiting,
            seconds=round(time.monotonic() - self._started, 1),
        )

    def metrics(self) -> Response:
        """Counters in the text form of Prometheus."""
        return Response(self._metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _count(self) -> int:
        return len(self._newest.now.searcher.index)

    def _search_many(self, asked: list[questions.Query]) -> Sequence[list[Hit] | QueryError]:
        with self._metrics.search_seconds.time():
            return self._newest.now.searcher.search_many(asked)

    def _query(self, asked: Asked, terms: list[Term]) -> questions.Query:
        if asked.rerank and not self._newest.can_match:
            raise RefusalError(422, "rerank: the model of this index has no head that judges it.")
        return questions.Query(
            terms=terms,
            top_k=asked.skip + asked.count + 1,
            # Beyond those that are put in order anew, the order is that of the search.
            rerank=asked.rerank if asked.skip < asked.rerank else 0,
            folder=asked.folder,
            since=asked.since,
            until=asked.until,
            group_duplicates=asked.group,
        )

    async def _ask(self, query: questions.Query) -> list[Hit]:
        found = await self.batcher.ask(query)
        if isinstance(found, QueryError):
            raise RefusalError(422, f"{found}.")
        return found

    def _terms(self, asked: Asked) -> list[Term]:
        uploads = [self._uploads.get(upload_id).image for upload_id in asked.upload]
        return [
            *(Term(1.0, text=text) for text in asked.text),
            *(Term(-1.0, text=text) for text in asked.without),
            *(Term(1.0, picture_id=picture_id) for picture_id in asked.like),
            *(Term(-1.0, picture_id=picture_id) for picture_id in asked.unlike),
            *(Term(1.0, image=image) for image in uploads),
        ]


def _named(asked: Asked, catalogue: Catalogue) -> list[NamedPicture]:
    name = catalogue.name
    return [
        *(NamedPicture(kind="like", id=one, name=name(one)) for one in asked.like),
        *(NamedPicture(kind="unlike", id=one, name=name(one)) for one in asked.unlike),
        *(NamedPicture(kind="upload", id=one, name="your picture") for one in asked.upload),
    ]


async def _picture_of(request: Request) -> bytes:
    """The file in a form."""
    try:
        async with request.form(max_files=1, max_fields=0) as form:
            picture = form.get("picture")
            if not isinstance(picture, UploadFile):
                raise RefusalError(422, "Send a picture as the file `picture` of a form.")
            return await picture.read()
    except FormParserError as error:
        raise RefusalError(400, f"The form cannot be read: {error}") from error


def _static(name: str, kind: str) -> Any:
    """A route for a file of the page."""
    path = importlib.resources.files("vlmo_jax.search.server") / "page" / name
    content = path.read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind, headers=_ASK_AGAIN)

    return answer
