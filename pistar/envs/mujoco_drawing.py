"""A picture of a MuJoCo model in two dimensions, for machines without OpenGL.

Each geometric primitive is projected orthographically onto a plane: the table seen from above, or the plane in which a
runner moves seen from the side. All of MuJoCo's solid primitives are convex, so their picture is the convex hull of a
few projected points, and one polygon routine draws them all, the farthest first. MuJoCo's own renderer shows
perspective, light and texture instead.

Left out: meshes, height fields, tendons and sites; solids that intersect are drawn whole, ordered by their centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX = 0, 2, 3, 4, 5, 6  # MuJoCo's mjtGeom
HINGE = 3  # MuJoCo's mjtJoint
OVERSAMPLING = 3  # drawn larger and reduced, since Pillow's polygons have hard edges
CIRCLE = np.linspace(0, 2 * np.pi, 32, endpoint=False)
SKY, GROUND, LINE, JOINT = (236, 241, 247), (196, 203, 209), (160, 168, 176), (240, 240, 240)


@dataclass(frozen=True)
class View:
    """Where a task is looked at from; lengths in metres, angles in degrees."""

    distance: float  # of the perspective camera from what it looks at
    elevation: float  # of the perspective camera, negative from above
    span: float  # width and height of the flat picture
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.0)
    side: bool = False  # flat picture from the side (x to the right, z up) instead of from above (x to the right, y up)
    follows: bool = False  # whether x and y of `lookat` are relative to the first body
    faint: tuple[str, ...] = ()  # flat picture: geoms that only frame the scene, drawn pale
    goal: str | None = None  # flat picture: a body with a ring around it

    def centre(self, data: Any) -> Array:
        """The point [3] in the middle of the picture."""
        moved = data.xpos[1] * (1.0, 1.0, 0.0) if self.follows else np.zeros(3)
        return np.asarray(np.array(self.lookat) + moved)


def draw(model: Any, data: Any, view: View, size: int = 480) -> NDArray[np.uint8]:
    """Draw a model in the state of ``data`` (whose positions are computed): an RGB frame [size, size, 3]."""
    pixels = size * OVERSAMPLING
    canvas = Image.new("RGB", (pixels, pixels), SKY)
    pen = ImageDraw.Draw(canvas)
    right, up = np.eye(3)[0], np.eye(3)[2 if view.side else 1]
    towards = np.cross(right, up)  # the viewer
    centre, scale = view.centre(data), pixels / view.span

    def project(points: Array) -> Array:
        flat = (points - centre) @ np.stack([right, -up], axis=1)
        return np.asarray(flat * scale + pixels / 2)

    depth = data.geom_xpos @ towards
    nearest, farthest = _range(depth[model.geom_type != PLANE])
    planes_first = np.lexsort((depth, model.geom_type != PLANE))
    for geom in planes_first:
        kind, colour, position = model.geom_type[geom], model.geom_rgba[geom], data.geom_xpos[geom]
        if colour[3] == 0:
            continue
        if kind == PLANE and view.side:
            _draw_ground(pen, project, position, centre, view.span)
            continue
        if kind == PLANE or model.geom(geom).name in view.faint:
            colour = (colour + 3) / 4
        points = _outline(kind, model.geom_size[geom], data.geom_xmat[geom].reshape(3, 3), right, up)
        if points is not None:
            light = 1.0 if farthest == nearest else 0.7 + 0.3 * (depth[geom] - farthest) / (nearest - farthest)
            _fill(pen, project(points + position), colour[:3], min(1.0, max(0.7, float(light))))
    _mark_joints(pen, project, model, data, towards, scale)
    if view.goal is not None:
        _draw_ring(pen, project, model, data, view.goal, scale)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _range(depth: Array) -> tuple[float, float]:
    return (float(depth.max()), float(depth.min())) if depth.size else (0.0, 0.0)


def _outline(kind: int, size: Array, rotation: Array, right: Array, up: Array) -> Array | None:
    """Points [n, 3] around a primitive's centre whose projection has the primitive's picture as its convex hull."""
    ring = np.outer(np.cos(CIRCLE), right) + np.outer(np.sin(CIRCLE), up)  # unit circle in the picture's plane
    if kind == SPHERE:
        return np.asarray(ring * size[0])
    if kind == CAPSULE:
        half = rotation[:, 2] * size[1]
        return np.concatenate([ring * size[0] + half, ring * size[0] - half])
    if kind == ELLIPSOID:  # the farthest point in direction d is A A'd / |A'd|, with A = rotation . diag(size)
        stretched = ring @ rotation * size
        return np.asarray(stretched / np.linalg.norm(stretched, axis=1, keepdims=True) * size @ rotation.T)
    if kind == CYLINDER:
        rim = np.stack([np.cos(CIRCLE) * size[0], np.sin(CIRCLE) * size[0], np.full(CIRCLE.size, size[1])], axis=1)
        return np.concatenate([rim, rim * (1, 1, -1)]) @ rotation.T
    if kind in (BOX, PLANE):
        extent = np.where(size[:2] == 0, 100.0, size[:2]) if kind == PLANE else size  # 0: an infinite plane
        corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [0] if kind == PLANE else [-1, 1]), axis=-1).reshape(-1, 3)
        return np.asarray(corners * np.append(extent, 0)[:3] @ rotation.T)
    return None


def _convex_hull(points: Array) -> list[tuple[float, float]]:
    """Corners of the convex hull of points [n, 2] in pixels, in order (Andrew's monotone chain, 1979)."""
    ordered = sorted({(float(x), float(y)) for x, y in np.round(points, 2)})
    hull: list[tuple[float, float]] = []
    for chain in (ordered, ordered[::-1]):
        start = len(hull)
        for x, y in chain:
            while len(hull) >= start + 2:
                (ax, ay), (bx, by) = hull[-2], hull[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                hull.pop()
            hull.append((x, y))
        hull.pop()
    return hull


def _fill(pen: ImageDraw.ImageDraw, points: Array, colour: Array, light: float) -> None:
    corners = _convex_hull(points)
    if len(corners) < 3:
        return
    inside = tuple(int(255 * light * channel) for channel in colour)
    edge = tuple(int(0.6 * channel) for channel in inside)
    pen.polygon(corners, fill=inside, outline=edge, width=OVERSAMPLING)


def _mark_joints(pen: ImageDraw.ImageDraw, project: Any, model: Any, data: Any, towards: Array, scale: float) -> None:
    """A pale dot on every hinge that is seen end-on and is its body's only joint."""
    for joint in range(model.njnt):
        body = model.jnt_bodyid[joint]
        alone = model.body_jntnum[body] == 1 and model.body_geomnum[body] > 0
        if model.jnt_type[joint] == HINGE and alone and abs(data.xaxis[joint] @ towards) > 0.9:
            x, y = project(data.xanchor[joint][None])[0]
            radius = 0.45 * scale * model.geom_size[model.body_geomadr[body], 0]
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=JOINT)


def _draw_ring(pen: ImageDraw.ImageDraw, project: Any, model: Any, data: Any, name: str, scale: float) -> None:
    body = model.body(name).id
    geom = model.body_geomadr[body]
    x, y = project(data.xpos[body][None])[0]
    radius = 2 * scale * model.geom_size[geom, 0]
    colour = tuple(int(255 * channel) for channel in model.geom_rgba[geom, :3])
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour, width=2 * OVERSAMPLING)


def _draw_ground(pen: ImageDraw.ImageDraw, project: Any, position: Array, centre: Array, span: float) -> None:
    """Fill below the floor and mark every half metre, so that motion shows."""
    pixels = pen.im.size[0]
    level = float(project(position[None])[0, 1])
    pen.rectangle([0, level, pixels, max(level, pixels)], fill=GROUND)
    pen.line([0, level, pixels, level], fill=LINE, width=2 * OVERSAMPLING)
    first, last = int(np.floor((centre[0] - span / 2) * 2)), int(np.ceil((centre[0] + span / 2) * 2))
    for half_metres in range(first, last + 1):
        x = float(project(np.array([[half_metres / 2, 0.0, 0.0]]))[0, 0])
        length = pixels * (0.05 if half_metres % 2 == 0 else 0.025)
        pen.line([x, level, x, level + length], fill=LINE, width=2 * OVERSAMPLING)
