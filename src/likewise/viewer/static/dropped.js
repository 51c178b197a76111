// A file that is dropped or pasted anywhere on the page.

// over: what is shown while a file is dragged over the page; take(file): what is done with it.
export function takeFiles(over, take) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    over.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over.hidden = true;
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
}
