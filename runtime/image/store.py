"""Images of one data root: a standard OCI image layout, readable by `skopeo inspect oci:DIR:NAME`.

`index.json` maps names to targets (an index or a manifest) and is the only thing that changes; all else is
content-addressed. A target may be a multi-platform index of which only this machine's part is here.
Deletion is by mark and sweep from `index.json` and the leases of work in flight.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace

from runtime.errors import Conflict, CorruptData, InvalidInput, NotFound
from runtime.image import manifest as m
from runtime.image import platform as p
from runtime.image import reference as r
from runtime.image.blobs import Blobs, refused, sync_directory, unlink_quietly
from runtime.image.sweep import sweep
from runtime.image.view import StoredImage, View, group, view, views

_LOG = logging.getLogger(__name__)
REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class ImageStore:
    """Names, images and blobs below `root`. Thread-safe; one process per root (the engine's lock)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._owed = os.path.join(root, "collection-owed")  # on the disk with index.json, beside which it lies
        self.debts = 0
        self.blobs = Blobs(root)
        self._lock = threading.RLock()
        self._targets: dict[str, m.Descriptor] = {}  # by full name, or by its own digest when untagged
        self._views: dict[str, tuple[View, ...]] = {}
        self._listed: tuple[StoredImage, ...] | None = None
        self._leases: dict[object, set[str]] = {}

    def open(self) -> None:
        """Make the layout or read it. Raises CorruptData when `index.json` and the one before it are damaged."""
        self.blobs.make()
        self.blobs.recover()
        if not os.path.exists(os.path.join(self.root, "oci-layout")):
            self._replace("oci-layout", _LAYOUT)
        found = _read_index(self.root)
        if found is None:
            self._write_index()
        else:
            self._targets = found

    # ------------------------------------------------------------ names

    def names(self) -> dict[str, m.Descriptor]:
        """Every name (or digest, for what has none) and its target."""
        with self._lock:
            return dict(self._targets)

    def target(self, name: str) -> m.Descriptor | None:
        """What a full name points at."""
        return self._targets.get(name)

    def put_name(self, name: str, target: m.Descriptor) -> None:
        """Point `name` ("" for none) at a target whose blobs are here; on disk when this returns.

        What had the name before and has no other stays as an image without a tag.
        """
        with self._lock:
            before = self._targets.get(name)
            self.notice(target)
            if name or not self._is_named(target.digest):
                self._targets[name or target.digest] = replace(target, annotations={}, platform=None)
            if name:
                self._targets.pop(target.digest, None)
            if before and not self._is_named(before.digest):
                self._targets[before.digest] = before
            self._write_index()

    def notice(self, target: m.Descriptor) -> None:
        """Look at a target again: more of its index may be here than before."""
        with self._lock:
            self._views.pop(target.digest, None)
            self._listed = None

    def remove_names(self, names: Collection[str], *, owe: bool = False) -> None:
        """Forget names; what they pointed at stays until collected, which may be noted as owed."""
        with self._lock:
            if owe:
                self._owe()
            for name in names:
                self._targets.pop(name, None)
            self._write_index()

    # ------------------------------------------------------------ images

    def images(self) -> tuple[StoredImage, ...]:
        """All images whose manifest and configuration are here, by id. Quick: nothing is read twice."""
        with self._lock:
            if self._listed is None:
                self._listed = group((name, t, self._seen(t)) for name, t in self._targets.items())
            return self._listed

    def resolve(self, ref: str) -> StoredImage:
        """The image of a name, digest, id or unambiguous id prefix. Raises NotFound, Conflict, InvalidInput."""
        images = self.images()
        full = _full_name(ref)
        if target := self._targets.get(full):
            for seen in self._seen(target):
                return next(image for image in images if image.id == seen.id)
        if prefix := r.id_prefix(ref):
            found = [i for i in images if prefix in (i.id[7:], i.manifest_digest[7:])]
            found = found or [i for i in images if i.id[7:].startswith(prefix)]
            if len(found) == 1:
                return found[0]
            if found:
                raise Conflict(f"cannot tell which image {ref!r} is: {len(found)} ids begin like that")
        if not full and not prefix:
            r.parse(ref)  # says what is wrong with it
        raise NotFound(f"cannot find image {ref}", hint=f"trueup pull {ref}")

    def view_of(self, target: m.Descriptor, wanted: p.Platform | None = None) -> View | None:
        """The image a target stands for on a platform (None: this machine's, else any that is here)."""
        return view(self.blobs, target, wanted)

    # ------------------------------------------------------------ leases and collection

    @contextlib.contextmanager
    def lease(self) -> Iterator[set[str]]:
        """A set of digests kept from collection while the block runs; add to it before you fetch."""
        key, held = object(), set[str]()
        with self._lock:
            self._leases[key] = held
        try:
            yield held
        finally:
            with self._lock:
                del self._leases[key]

    def collect(self, *, min_age: float = 0.0, abandoned: float = 0.0) -> int:
        """Remove blobs nothing refers to; ages as in `sweep`; bytes given back."""
        with self._lock:
            return sweep(self.blobs, self.marked(), min_age=min_age, abandoned=abandoned)

    def owes_collection(self) -> bool:
        """Whether names went and what they pointed at may still be here, in this life or the last."""
        return os.path.exists(self._owed)

    def collected(self, debts: int) -> None:
        """What no name needed when there were so many `debts` is gone, unpacked as well."""
        with self._lock:
            if debts == self.debts:
                unlink_quietly(self._owed)

    def _owe(self) -> None:
        self.debts += 1
        with contextlib.suppress(OSError):  # a full disk: a crash now leaves what the next collection takes
            os.close(os.open(self._owed, os.O_CREAT | os.O_CLOEXEC, 0o600))

    def forget_untagged(self, keep: Collection[str]) -> None:
        """Forget images without a tag whose ids are not in `keep`."""
        untagged = [image for image in self.images() if not image.tags and image.id not in keep]
        self.remove_names([name for image in untagged for name in (*image.names, image.manifest_digest)])

    def leased(self) -> set[str]:
        """Every digest that work in flight needs."""
        with self._lock:
            return {digest for held in self._leases.values() for digest in held}

    def marked(self) -> set[str]:
        """Every digest reachable from a name or a lease."""
        with self._lock:
            marked = self.leased()
            for target in self._targets.values():
                self._mark(target, marked)
            return marked

    def reach(self, seen: View | None) -> set[str]:
        """Every digest of one image, of its layers unpacked as well."""
        if seen is None:
            return set()
        layers = {layer.digest for layer in seen.manifest.layers}
        return layers | {seen.id, seen.manifest_digest, *seen.config.diff_ids}

    def described(self, digest: str) -> m.Descriptor:
        """The descriptor of a manifest that is here. Raises NotFound, CorruptData."""
        data = self.blobs.read(digest, m.MAX_JSON)
        return m.Descriptor(media_type=m.parse_document(data).media_type, digest=digest, size=len(data))

    def _mark(self, target: m.Descriptor, marked: set[str]) -> None:
        if target.digest in marked and target.media_type not in m.INDEXES + m.MANIFESTS:
            return
        marked.add(target.digest)
        if target.media_type not in m.INDEXES + m.MANIFESTS:
            return
        with contextlib.suppress(NotFound):
            document = m.parse_document(self.blobs.read(target.digest, m.MAX_JSON))
            if isinstance(document, m.Index):
                for child in document.manifests:
                    self._mark(child, marked)
            else:
                marked.update((document.config.digest, *(layer.digest for layer in document.layers)))

    def _seen(self, target: m.Descriptor) -> tuple[View, ...]:
        seen = self._views.get(target.digest)
        if seen is None:
            try:
                seen = views(self.blobs, target)
            except CorruptData:
                return ()  # a damaged image is not listed; pulling it again repairs it
            self._views[target.digest] = seen
        return seen

    def _is_named(self, digest: str) -> bool:
        return any(target.digest == digest for target in self._targets.values())

    # ------------------------------------------------------------ index.json

    def _write_index(self) -> None:
        self._listed = None
        self.blobs.settle()
        entries = [
            replace(target, annotations={REF_NAME: name} if name != target.digest else {}).as_json()
            for name, target in sorted(self._targets.items())
        ]
        document = {"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": entries}
        _keep(os.path.join(self.root, "index.json"))
        self._replace("index.json", json.dumps(document, indent=1).encode())

    def _replace(self, name: str, data: bytes) -> None:
        path = os.path.join(self.root, name)
        try:
            with open(path + ".new", "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(path + ".new", path)
            sync_directory(self.root)
        except OSError as error:
            raise refused(f"write {path}", error) from error


def _full_name(ref: str) -> str:
    """The key of `index.json` for what a person wrote, "" when it is no name."""
    try:
        named = r.parse(ref)
    except InvalidInput:
        return ""
    return named.with_digest(named.digest) if named.digest else str(named)


def _keep(path: str) -> None:
    """Give the file a second name, which it has until the next one takes its place."""
    unlink_quietly(path + ".before")
    with contextlib.suppress(OSError):  # there is none yet, or no room: that one is spare
        os.link(path, path + ".before")


def _read_index(root: str) -> dict[str, m.Descriptor] | None:
    """The names, from the index before this one should it be damaged; None when there is neither."""
    path = os.path.join(root, "index.json")
    try:
        return _names_in(path)
    except FileNotFoundError:
        return None
    except CorruptData as damage:
        try:
            names = _names_in(path + ".before")
        except (FileNotFoundError, CorruptData):
            hint = f"restore it, or remove it and {path}.before: images are known again once pulled or loaded"
            raise CorruptData(damage.message, hint=hint) from damage
        os.replace(path, path + ".damaged")
        os.link(path + ".before", path)
        _LOG.warning("%s; the one before it is used, this one is now %s.damaged", damage.message, path)
        return names


def _names_in(path: str) -> dict[str, m.Descriptor]:
    with open(path, "rb") as file:
        document = m.parse_document(file.read(), name=path)
    if not isinstance(document, m.Index):
        raise CorruptData(f"cannot use {path}: it is not an index")
    return {
        entry.annotations.get(REF_NAME) or entry.digest: replace(entry, annotations={}) for entry in document.manifests
    }
