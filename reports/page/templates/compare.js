// Two of image, truth and methods on one picture of the gallery, with a slider between. Pictures are used, not copied.
function startComparing() {
  const box = document.getElementById("compare");
  const [picture, left, right] = ["picture", "left", "right"].map((name) => box.querySelector(`select[name=${name}]`));
  const stage = box.querySelector(".stage");
  const slider = box.querySelector("input[type=range]");
  const sides = box.querySelectorAll(".sides bdi");
  const pictures = collect();
  if (!pictures.size) return;

  for (const [key, { title, tiles }] of pictures) {
    picture.append(new Option(`${title} (${tiles.size} ${tiles.size === 1 ? "method" : "methods"})`, key));
  }
  picture.addEventListener("change", choosePicture);
  left.addEventListener("change", draw);
  right.addEventListener("change", draw);
  slider.addEventListener("input", move);
  // The picture itself can be dragged, too.
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  box.hidden = false;
  choosePicture();

  // Picture -> its title and the tile of each method that is shown on it; those with most methods first.
  function collect() {
    const found = new Map();
    for (const tile of document.querySelectorAll("#gallery svg.tile")) {
      const key = tile.querySelector("use").getAttribute("href");
      const beside = tile.closest(".beside");
      const heading = tile.closest("details.method").querySelector("summary").textContent.trim();
      const caption = tile.nextElementSibling;
      const method = beside ? caption.querySelector(".why").textContent : heading;
      const domain = beside ? heading : tile.closest("section").querySelector("h4").textContent;
      if (!found.has(key)) found.set(key, { title: `${domain}, ${caption.querySelector(".detail").textContent}`, tiles: new Map() });
      found.get(key).tiles.set(method, { tile, dice: caption.querySelector(".number").textContent });
    }
    return new Map([...found].sort(([, a], [, b]) => b.tiles.size - a.tiles.size));
  }

  function choosePicture() {
    const { tiles } = pictures.get(picture.value);
    const before = [left, right].map((select) => select.selectedOptions[0]?.text);
    const options = [["image", "Image"], ["truth", "Truth"], ...[...tiles.keys()].map((name, place) => [`method ${place}`, name])];
    [left, right].forEach((select, side) => {
      select.replaceChildren(...options.map(([value, title]) => new Option(title, value)));
      const kept = options.find(([, title]) => title === before[side]);
      select.value = kept ? kept[0] : ["truth", "method 0"][side];
    });
    draw();
  }

  function draw() {
    const { title, tiles } = pictures.get(picture.value);
    const chosen = [left, right].map((select) => {
      const entry = [...tiles.values()][Number(select.value.split(" ")[1])];
      const words = select.selectedOptions[0].text;
      return { kind: select.value, entry, words: entry ? `${words}, Dice ${entry.dice}` : words };
    });
    const pattern = tiles.values().next().value.tile;
    // The left one lies above the right one, cut at the slider.
    stage.replaceChildren(...[chosen[1], chosen[0]].map(({ kind, entry }) => layer(kind, entry?.tile ?? pattern)));
    stage.setAttribute("aria-label", `${title}. Left: ${chosen[0].words}. Right: ${chosen[1].words}.`);
    chosen.forEach(({ words }, side) => { sides[side].textContent = words; });
    move();
  }

  function layer(kind, tile) {
    const svg = tile.cloneNode(kind.startsWith("method"));
    if (!svg.firstChild) svg.append(tile.querySelector("use").cloneNode());
    svg.removeAttribute("role");
    svg.removeAttribute("aria-label");
    svg.setAttribute("class", `${tile.getAttribute("class")} layer ${kind === "truth" ? "with-truth" : ""}`);
    return svg;
  }

  function move() {
    stage.style.setProperty("--at", `${slider.value}%`);
    const names = [left, right].map((select) => select.selectedOptions[0].text);
    slider.setAttribute("aria-valuetext", `${slider.value} % ${names[0]}, ${100 - slider.value} % ${names[1]}`);
  }

  function drag(event) {
    const { left: start, width } = stage.getBoundingClientRect();
    slider.value = Math.round((100 * (event.clientX - start)) / width);
    move();
  }
}
