"""What clients ask and are answered, as OpenAPI describes it."""

import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

TEXT_LENGTH = 1000  # letters of a text
TERMS = 8  # texts and pictures of a query
RESULTS = 1000  # that a query may go through, page after page
PAGE = 100  # results of one answer
RERANK = 100  # results of which the match is judged

Text = Annotated[
    str, StringConstraints(min_length=1, max_length=TEXT_LENGTH, strip_whitespace=True)
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[\w-]+$")]


class Filters(BaseModel):
    """What can be asked besides texts and pictures.

    Attributes: see the descriptions.
    """

    model_config = ConfigDict(extra="forbid")  # a name with a typing error is no silent default

    folder: Annotated[
        str | None,
        Field(max_length=4096, description="Only pictures in it and below; see /about."),
    ] = None
    since: Annotated[
        datetime.date | None, Field(description="Only pictures taken on this day or later.")
    ] = None
    until: Annotated[
        datetime.date | None, Field(description="Only pictures taken on this day or earlier.")
    ] = None
    group: Annotated[bool, Field(description="Pictures that are nearly the same count as one.")] = (
        False
    )
    count: Annotated[int, Field(ge=1, le=PAGE, description="Results of one answer.")] = 24
    skip: Annotated[
        int, Field(ge=0, le=RESULTS - 1, description="Results to leave out: `next` of an answer.")
    ] = 0

    @model_validator(mode="after")
    def _check_days(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since={self.since} is after until={self.until}")
        return self


class Asked(Filters):
    """A query: texts and pictures whose vectors are added and taken away. Without any, it is all
    pictures, newest first.

    Attributes: see the descriptions.
    """

    text: Annotated[list[Text], Field(description="What the pictures should show.")] = []
    without: Annotated[list[Text], Field(description="What they should not show.")] = []
    like: Annotated[list[Id], Field(description="Ids of pictures they should be like.")] = []
    unlike: Annotated[list[Id], Field(description="Ids of pictures they should not be like.")] = []
    upload: Annotated[
        list[Id], Field(description="Ids of uploaded pictures they should be like.")
    ] = []
    rerank: Annotated[
        int,
        Field(
            ge=0,
            le=RERANK,
            description="Of the best so many, the probability that they show the texts is"
            " given, and orders them.",
        ),
    ] = 0

    @model_validator(mode="after")
    def _check_terms(self) -> Self:
        count = sum(map(len, (self.text, self.without, self.like, self.unlike, self.upload)))
        if count > TERMS:
            raise ValueError(f"{count} texts and pictures are too many; at most {TERMS} are taken")
        if self.rerank and not self.text:
            raise ValueError("rerank compares pictures with texts, and there is none")
        return self


class Result(BaseModel):
    """A picture that was found.

    Attributes: see the descriptions.
    """

    id: str
    name: Annotated[str, Field(description="Of the file.")]
    path: Annotated[str, Field(description="Of the file, from the folder of pictures.")]
    caption: str | None
    taken: Annotated[datetime.date | None, Field(description="The day, as the camera says.")]
    width: int
    height: int
    score: Annotated[float | None, Field(description="Cosine similarity; null without a query.")]
    probability: Annotated[float | None, Field(description="Of the match; null if not asked.")]
    duplicates: Annotated[list[str], Field(description="Ids of those nearly the same.")]
    thumbnail: Annotated[str, Field(description="Address of a small JPEG.")]
    original: Annotated[str, Field(description="Address of the file.")]


class NamedPicture(BaseModel):
    """A picture of a query.

    Attributes:
        kind: the name of its parameter.
        id: of it.
        name: its caption, or the name of its file.
    """

    kind: Literal["like", "unlike", "upload"]
    id: str
    name: str


class Answer(BaseModel):
    """What was found, best first.

    Attributes: see the descriptions.
    """

    results: list[Result]
    next: Annotated[int | None, Field(description="`skip` of the next page; null: no more.")]
    pictures: Annotated[list[NamedPicture], Field(description="Those of the query.")]
    cut: Annotated[
        list[str], Field(description="Texts longer than the model reads: their ends do not count.")
    ]
    milliseconds: Annotated[float, Field(description="In which it was answered, waiting included.")]


class Folder(BaseModel):
    """A folder of pictures.

    Attributes:
        name: its path, from the folder of all.
        pictures: in it and below.
    """

    name: str
    pictures: int


class AboutAnswer(BaseModel):
    """What can be searched.

    Attributes: see the descriptions.
    """

    name: Annotated[str, Field(description="Of the folder of pictures.")]
    pictures: int
    can_match: Annotated[bool, Field(description="Whether `rerank` can be asked.")]
    folders: list[Folder]
    first_taken: datetime.date | None
    last_taken: datetime.date | None


class Health(BaseModel):
    """How the server is.

    Attributes:
        status: "ok".
        pictures: of its index.
        waiting: queries that wait.
        seconds: since it was started.
    """

    status: Literal["ok"]
    pictures: int
    waiting: int
    seconds: float
