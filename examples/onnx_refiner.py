"""Refine one box with an exported network: numpy, OpenCV and ONNX Runtime alone.

python examples/onnx_refiner.py ar18.onnx FIRST_IMAGE x,y,w,h IMAGE x,y,w,h MASK.png
"""

import sys

import cv2
import numpy as np
import onnxruntime


def cut(frame: np.ndarray, box_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 256x256 crop around a box, black outside of the frame, and its window x, y, width, height."""
    width, height = np.ceil(2 * box_xywh[2:]).astype(int)
    x, y = np.rint(box_xywh[:2] + box_xywh[2:] / 2 - [width / 2, height / 2]).astype(int)
    rows, columns = slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))
    patch, window = frame[rows, columns], np.zeros((height, width, 3), np.uint8)
    window[rows.start - y :, columns.start - x :][: patch.shape[0], : patch.shape[1]] = patch
    return cv2.resize(window, (256, 256)), np.array([x, y, width, height])


def main(model: str, first_image: str, first_box: str, image: str, box: str, mask_file: str) -> None:
    """Print the refined box x,y,w,h and its score, and write the mask of the image."""
    search = onnxruntime.InferenceSession(model)
    template = onnxruntime.InferenceSession(model.replace(".onnx", "_template.onnx"))
    frames = [np.asarray(cv2.imread(name, cv2.IMREAD_COLOR_RGB)) for name in (first_image, image)]
    boxes_xywh = [np.array(text.split(","), float) for text in (first_box, box)]
    (kernels,) = template.run(["kernels"], {"crops": cut(frames[0], boxes_xywh[0])[0][None]})
    crop, (x, y, width, height) = cut(frames[1], boxes_xywh[1])
    feeds = {"crops": crop[None], "kernels": kernels}
    crop_xyxy, score, mask = (values[0] for values in search.run(["crop_xyxy", "score", "mask"], feeds))
    x1, y1, x2, y2 = crop_xyxy * [width, height, width, height] / 256 + [x, y, x, y]
    print(",".join(f"{value:.2f}" for value in (x1, y1, x2 - x1, y2 - y1)), f"score {score:.3f}")
    to_frame = np.array([[width / 256, 0, x + (width / 256 - 1) / 2], [0, height / 256, y + (height / 256 - 1) / 2]])
    cv2.imwrite(mask_file, 255 * (cv2.warpAffine(mask, to_frame, frames[1].shape[1::-1]) > 0.5).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 7 else sys.exit(__doc__)
