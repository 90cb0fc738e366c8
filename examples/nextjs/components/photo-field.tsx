"use client";

import { useEffect, useId, useState, type ReactNode } from "react";

const TYPES = "image/jpeg,image/png,image/webp,image/avif,image/heic,.heic";

/** Chooses a picture file, and shows it. */
export function PhotoField({ name, label, hint }: {
  name: string;
  label: string;
  hint?: ReactNode;
}) {
  const id = useId();
  const [file, setFile] = useState<File | null>(null);
  const preview = useObjectUrl(file);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="file"
        name={name}
        accept={TYPES}
        required
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(event) => setFile(event.target.files?.[0] ?? null)}
      />
      {hint && <p className="hint" id={`${id}-hint`}>{hint}</p>}
      {preview && <Preview key={preview} src={preview} />}
    </div>
  );
}

/** Nothing where the browser can't draw the file, such as HEIC: the service can all the same. */
function Preview({ src }: { src: string }) {
  const [shown, setShown] = useState(true);
  return shown ? <img className="preview" src={src} alt="" onError={() => setShown(false)} /> : null;
}

function useObjectUrl(file: File | null): string | null {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    if (file === null) return setUrl(null);
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return url;
}
