"""Images: list, inspect, history, tag, remove, prune, pull, push, save, load, import, commit."""

from __future__ import annotations

import base64
import binascii
import time

from agent.engine_api.commits import Commits
from agent.engine_api.container_request import check_platform
from agent.engine_api.dockerfile import apply_changes
from agent.engine_api.engine import Engine, familiar, joined, with_tag
from agent.engine_api.image_view import (
    ImageSelection,
    history_json,
    image_inspect,
    image_summary,
    users,
)
from agent.engine_api.message import Answer, Request, Response, Stream, ok
from agent.engine_api.plain_json import read_json
from agent.engine_api.progress import Body, Transfer, line
from agent.engine_api.router import Route
from runtime.engine.model import Image, ImageConfig, Progress, RegistryAuth
from runtime.engine.protocol import OnProgress
from runtime.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized, Unsupported


class Images:
    """What containers are made from."""

    def __init__(self, engine: Engine, commits: Commits) -> None:
        self._engine, self._commits = engine, commits

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/images/json", self.index),
            Route("POST", "/images/create", self.create),
            Route("POST", "/images/load", self.load),
            Route("POST", "/images/prune", self.prune),
            Route("GET", "/images/get", self.save),
            Route("GET", "/images/{name:path}/json", self.inspect),
            Route("GET", "/images/{name:path}/history", self.history),
            Route("GET", "/images/{name:path}/get", self.save_one),
            Route("POST", "/images/{name:path}/push", self.push),
            Route("POST", "/images/{name:path}/tag", self.tag),
            Route("DELETE", "/images/{name:path}", self.remove),
            Route("GET", "/distribution/{name:path}/json", self.distribution),
        ]

    # ------------------------------------------------------------ seeing

    async def index(self, request: Request) -> Answer:
        """GET /images/json, newest first."""
        world = await self._engine.world()
        selection = ImageSelection(request.filters(), world.images, time.time())
        chosen = sorted((i for i in world.images if selection.wants(i)), key=lambda i: i.created_at, reverse=True)
        counts = users(world.containers)
        return ok([image_summary(selection.shown(i), request.version, counts.get(i.id, 0)) for i in chosen])

    async def inspect(self, request: Request, name: str) -> Answer:
        """GET /images/{name}/json."""
        image = await self._engine.image(name)
        return ok(image_inspect(image, request.version, made_of=self._commits.made_of.get(image.id)))

    async def history(self, request: Request, name: str) -> Answer:
        """GET /images/{name}/history."""
        return ok(history_json(await self._engine.image(name)))

    # ------------------------------------------------------------ changing

    async def tag(self, request: Request, name: str) -> Answer:
        """POST /images/{name}/tag."""
        await self._engine.image(name)
        target = joined(request.query.get("repo", ""), request.query.get("tag", ""))
        await self._engine.runtime.tag(name, target)
        return Response(status=201)

    async def remove(self, request: Request, name: str) -> Answer:
        """DELETE /images/{name}."""
        image = await self._engine.image(name)
        force = request.flag("force")
        await self._is_free(name, image, force)
        gone = await self._engine.runtime.remove_image(name, force=force)
        return ok([_removed(what, ref) for what, ref in gone])

    async def _is_free(self, ref: str, image: Image, force: bool) -> None:
        """Docker's own words where a container still needs the image, or an id has several names."""
        world = await self._engine.world()
        by_id = image.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))
        if by_id and len({t.rpartition(":")[0] for t in image.tags}) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {image.id[7:19]} (must be forced) - "
                "image is referenced in multiple repositories"
            )
        if not by_id and len(image.tags) > 1:
            return
        for container in world.containers:
            if container.image_id != image.id:
                continue
            if container.pid:
                raise Conflict(
                    f"conflict: unable to delete {image.id[7:19]} (cannot be forced) - "
                    f"image is being used by running container {container.id[:12]}"
                )
            if not force:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{ref}" (must force) - '
                    f"container {container.id[:12]} is using its referenced image {image.id[7:19]}"
                )

    async def prune(self, request: Request) -> Answer:
        """POST /images/prune: dangling ones, or with dangling=false all that no container uses."""
        filters = request.filters()
        everything = filters.pop("dangling", ["true"])[0].lower() in ("0", "false")
        world = await self._engine.world()
        selection = ImageSelection(filters, world.images, time.time())
        used = users(world.containers)
        gone: list[dict[str, str]] = []
        before = (await self._engine.runtime.storage()).size
        for image in world.images:
            if image.id not in used and (everything or not image.tags) and selection.wants(image):
                try:
                    removed = await self._engine.runtime.remove_image(image.id, force=True)
                    gone += [_removed(what, ref) for what, ref in removed]
                except (Conflict, NotFound):
                    continue  # somebody began to use it, or removed it, in between
        await self._engine.runtime.collect_garbage()
        reclaimed = max(0, before - (await self._engine.runtime.storage()).size)
        self._engine.hub.emit("image", "prune", "", reclaimed=str(reclaimed))
        return ok({"ImagesDeleted": gone or None, "SpaceReclaimed": reclaimed})

    # ------------------------------------------------------------ moving

    async def create(self, request: Request) -> Answer:
        """POST /images/create: a pull, or with fromSrc an import."""
        if "fromSrc" in request.query:
            return await self._import(request)
        name, tag = request.query.get("fromImage", ""), request.query.get("tag", "")
        if not name:
            raise InvalidInput("invalid reference format")
        reference = joined(name, tag)
        check_platform(request.query.get("platform", ""))
        auth, platform = read_auth(request), request.query.get("platform", "")
        known = {image.id for image in (await self._engine.world()).images}

        async def work(progress: OnProgress) -> list[bytes]:
            image = await self._pull(reference, platform, auth, progress)
            newer = "Image is up to date for" if image.id in known else "Downloaded newer image for"
            return [
                line({"status": f"Digest: {image.manifest_digest}"}),
                line({"status": f"Status: {newer} {familiar(with_tag(reference))}"}),
            ]

        repository, shown_tag = _split(with_tag(reference))
        first = {"status": f"Pulling from {_repository_path(repository)}", "id": shown_tag}
        return await Transfer(work, request.version).answer([line(first)])

    async def _pull(self, reference: str, platform: str, auth: RegistryAuth | None, progress: OnProgress) -> Image:
        def tell(step: Progress) -> None:
            if not step.status.startswith(("Pulling from", "Digest:", "Status:")):  # we say these ourselves
                progress(step)

        try:
            return await self._engine.runtime.pull(reference, platform=platform, auth=auth, progress=tell)
        except NotFound as e:
            if "_UNKNOWN" not in str(e):  # the registry's words for a name that it has not
                raise
            name = familiar(with_tag(reference))
            raise NotFound(f"manifest for {name} not found: manifest unknown: manifest unknown") from e
        except (Unauthorized, Forbidden) as e:
            name = familiar(_split(with_tag(reference))[0])
            raise NotFound(
                f"pull access denied for {name}, repository does not exist or may require 'docker login': {e}"
            ) from e

    async def push(self, request: Request, name: str) -> Answer:
        """POST /images/{name}/push: what fails is told in the stream, after its first line."""
        reference = with_tag(joined(name, request.query.get("tag", "")))
        auth, (repository, tag) = read_auth(request), _split(reference)

        def layers_only(progress: OnProgress) -> OnProgress:
            return lambda step: progress(step) if step.id else None

        async def work(progress: OnProgress) -> list[bytes]:
            try:
                await self._engine.runtime.image(reference)
            except NotFound as e:
                raise NotFound(f"An image does not exist locally with the tag: {familiar(repository)}") from e
            digest = await self._engine.runtime.push(reference, auth=auth, progress=layers_only(progress))
            size = (await self._engine.runtime.remote_image(reference, auth=auth)).size
            return [
                line({"status": f"{tag}: digest: {digest} size: {size}"}),
                line({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}),
            ]

        return Transfer(work, request.version).stream(
            [line({"status": f"The push refers to repository [{repository}]"})]
        )

    async def load(self, request: Request) -> Answer:
        """POST /images/load: a docker-save or OCI-layout archive, read to its end before anything is answered."""
        quiet = request.flag("quiet")
        before = {tag for image in (await self._engine.world()).images for tag in image.tags}
        body = Body(request.body)

        async def work(progress: OnProgress) -> list[bytes]:
            images = await self._engine.runtime.load(body, progress=progress if not quiet else None)
            return [line({"stream": f"{text}\n"}) for image in images for text in _loaded(image, before)]

        transfer = Transfer(work, request.version)
        await transfer.until(body.ended)
        return transfer.stream([])

    async def save(self, request: Request) -> Answer:
        """GET /images/get?names=…"""
        names = tuple(name for text in request.lists.get("names", ()) for name in text.split(",") if name)
        if not names:
            raise InvalidInput("cannot save: no image is named")
        return await self._saved(names)

    async def save_one(self, request: Request, name: str) -> Answer:
        """GET /images/{name}/get."""
        return await self._saved((name,))

    async def _saved(self, names: tuple[str, ...]) -> Answer:
        for name in names:
            image = await self._engine.image(name)
            self._engine.hub.emit("image", "save", image.id, name=name)
        return Stream(chunks=await self._engine.runtime.save(names), content_type="application/x-tar")

    async def _import(self, request: Request) -> Answer:
        if request.query["fromSrc"] != "-":
            raise Unsupported("cannot import from a URL", hint="fetch it yourself and send the tar in the body")
        config = apply_changes(ImageConfig(), request.lists.get("changes", []))
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        reference = with_tag(joined(repository, tag)) if repository else ""
        platform = request.query.get("platform", "")
        message = request.query.get("message", "")
        check_platform(platform)
        image = await self._engine.runtime.import_rootfs(
            request.body, reference, config=config, comment=message, platform=platform
        )
        return Response(body=line({"status": image.id}))

    async def distribution(self, request: Request, name: str) -> Answer:
        """GET /distribution/{name}/json: what the registry has."""
        found = await self._engine.runtime.remote_image(with_tag(name), auth=read_auth(request))
        platforms = [dict(zip(("os", "architecture", "variant"), p.split("/"), strict=False)) for p in found.platforms]
        descriptor = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
        return ok({"Descriptor": descriptor, "Platforms": platforms})


def read_auth(request: Request) -> RegistryAuth | None:
    """X-Registry-Auth; what cannot be read counts as none, as with dockerd."""
    text = request.headers.get("x-registry-auth", "")
    if not text:
        return None
    try:
        tree = read_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return RegistryAuth(
            username=str(tree.get("username") or ""),
            password=str(tree.get("password") or ""),
            identity_token=str(tree.get("identitytoken") or ""),
            registry_token=str(tree.get("registrytoken") or ""),
        )
    except (ValueError, AttributeError, binascii.Error):
        return None


def _split(reference: str) -> tuple[str, str]:
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    name, _, tag = reference.rpartition(":")
    return name, tag


def _repository_path(repository: str) -> str:
    """What Docker shows of a repository: without its registry, with library/."""
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return rest
    return repository if slash else f"library/{repository}"


def _removed(what: str, ref: str) -> dict[str, str]:
    return {"Untagged": familiar(ref)} if what == "untagged" else {"Deleted": ref}


def _loaded(image: Image, before: set[str]) -> list[str]:
    """Names the archive brought; all of the image's when it had them already."""
    tags = [tag for tag in image.tags if tag not in before] or image.tags
    return [f"Loaded image: {familiar(tag)}" for tag in tags] or [f"Loaded image ID: {image.id}"]
