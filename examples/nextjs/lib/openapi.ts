// Made by `npm run types` from the service's openapi.json. Not to be edited.

export interface paths {
    "/personalize": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Personalize
         * @description Draw the child into the page. With `Accept: image/png` (or jpeg, webp) the answer is the picture itself.
         */
        post: operations["personalize_personalize_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/download/{file_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Download
         * @description A result or an upload as a file; takes ranges and If-None-Match.
         */
        get: operations["download_download__file_id__get"];
        put?: never;
        post?: never;
        /**
         * Delete File
         * @description Remove a result or an upload at once.
         */
        delete: operations["delete_file_download__file_id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/templates": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Templates
         * @description Your templates and those of the service, newest first.
         */
        get: operations["list_templates_templates_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/templates/{template_id}/image": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Template Image
         * @description The page itself, as PNG; takes ranges and If-None-Match.
         */
        get: operations["get_template_image_templates__template_id__image_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tryon/submit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Submit Try On
         * @description Have a job dress the person. Follow it at GET /api/tryon/status/{job_id}.
         *
         *     What can't be decoded or fetched is refused at once; what can't be dressed fails in the job. Both photos are kept
         *     until the job has finished.
         */
        post: operations["submit_try_on_api_tryon_submit_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tryon/status/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Try On Status
         * @description Where the job stands, and how good the draft is.
         */
        get: operations["try_on_status_api_tryon_status__job_id__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tryon/result/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Try On Result
         * @description The picture; 409 as long as there is none. Takes ranges and If-None-Match.
         */
        get: operations["try_on_result_api_tryon_result__job_id__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tryon/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Cancel Or Delete Try On
         * @description Cancel a job that is not finished; remove one that is, with its picture and artifacts.
         */
        delete: operations["cancel_or_delete_try_on_api_tryon__job_id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/frontal/crop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Frontal Crop
         * @description The regions of one face, turned upright and cut out.
         *
         *     The same request gives the same bytes. The photo is not stored; its contours are kept for the same caller's same
         *     request (`CACHE_MAX_MB`, until they expire).
         */
        post: operations["frontal_crop_api_v1_frontal_crop_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/compare-images": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Compare Images
         * @description Whether two pictures show the same person: the chosen face of each is embedded, and the two are compared.
         *
         *     This is not liveness: it compares pictures, and can't tell whether a person was before the camera.
         */
        post: operations["compare_images_api_v1_compare_images_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** Body_personalize_personalize_post */
        Body_personalize_personalize_post: {
            /**
             * Child Photo
             * @description A photo of the child. It is not stored.
             */
            child_photo: string;
            /**
             * Illustration
             * @description The page, unless `template_id` is given.
             */
            illustration?: string | null;
            /**
             * Template Id
             * @description A stored page, instead of `illustration`.
             */
            template_id?: string | null;
            /**
             * Format
             * @description png (lossless), jpeg or webp. Default: what Accept asks for, else png.
             */
            format?: ("png" | "jpeg" | "webp") | null;
            /**
             * Mode
             * @description face: the page's hair and hat stay. head: the child's hair comes, drawn hair and hats go.
             * @default face
             * @enum {string}
             */
            mode?: "face" | "head";
            /**
             * Style
             * @description How the face is drawn.
             * @default storybook
             * @enum {string}
             */
            style?: "storybook" | "watercolor" | "pencil" | "comic" | "none";
            /**
             * Strength
             * @description 0: the photo's surface; 1: drawn, by diffusion all anew.
             * @default 0.7
             */
            strength?: number;
            /**
             * Likeness
             * @description 0: the drawing's proportions; 1: the child's.
             * @default 0.65
             */
            likeness?: number;
            /**
             * Slot
             * @description Which face of the page: an index (0 is the best), a box `[x1, y1, x2, y2]` in pixels, or 5, 468 or 478 points `[[x, y], ...]`.
             * @default 0
             */
            slot?: string;
            /**
             * Blend
             * @description gaussian: a soft edge; multiband: softer for light than for lines; poisson: by gradients.
             * @default gaussian
             * @enum {string}
             */
            blend?: "gaussian" | "multiband" | "poisson";
            /**
             * Match Colors
             * @description Draw the face in the page's light and palette; false keeps the photo's.
             * @default true
             */
            match_colors?: boolean;
            /**
             * Keep Skin Tone
             * @description Recolour the drawn face, ears and neck where the child's skin is clearly darker or fairer.
             * @default true
             */
            keep_skin_tone?: boolean;
            /**
             * Engine
             * @description classic draws in milliseconds; diffusion (SDXL, slow without a GPU) draws the head anew; auto takes diffusion where there are a GPU and its models.
             * @default auto
             * @enum {string}
             */
            engine?: "auto" | "classic" | "diffusion";
            /**
             * Seed
             * @description Chooses paper grain, hatching, and what diffusion draws.
             * @default 0
             */
            seed?: number;
            /**
             * Face Box
             * @description Which face of the photo: a box `[x1, y1, x2, y2]`. Default: the most prominent.
             */
            face_box?: string | null;
        };
        /**
         * Personalized
         * @description A personalised page, stored until it expires.
         */
        Personalized: {
            /**
             * Success
             * @default true
             * @constant
             */
            success?: true;
            /** Output File Id */
            output_file_id: string;
            /** Output Path */
            output_path: string;
            /**
             * Message
             * @default Illustration personalized successfully
             */
            message?: string;
            /** Download Url */
            download_url: string;
            slot: components["schemas"]["UsedSlot"];
            /** Slots In Page */
            slots_in_page: number;
            /**
             * Faces In Photo
             * @description More than one? `face_box` chooses.
             */
            faces_in_photo: number;
            /** Engine */
            engine: string;
            /** Quality */
            quality: {
                [key: string]: number | null;
            };
            /**
             * Unavailable
             * @description Why a figure is null.
             */
            unavailable: {
                [key: string]: string;
            };
            /** @description How it was drawn by diffusion; null where it wasn't. */
            diffusion: components["schemas"]["DiffusionOut"] | null;
            /** Timings Ms */
            timings_ms: {
                [key: string]: number;
            };
        };
        /**
         * UsedSlot
         * @description The slot that was filled.
         */
        UsedSlot: {
            /**
             * Bbox
             * @description x1, y1, x2, y2 in pixels of the upright page.
             */
            bbox: number[];
            /**
             * Kps
             * @description Left eye, right eye, nose, left and right mouth corner, as seen.
             */
            kps: number[][];
            /**
             * Score
             * @description How sure it is that this is the face to replace, 0 to 1.
             */
            score: number;
            /** Roll Deg */
            roll_deg: number;
            /** Yaw Deg */
            yaw_deg: number;
            /** Index */
            index: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * DiffusionOut
         * @description How a diffusion model drew a page.
         */
        DiffusionOut: {
            /**
             * Identity
             * @description What showed it the child.
             * @enum {string}
             */
            identity: "instantid" | "ip-adapter";
            /** Prompt */
            prompt: string;
            /** Negative Prompt */
            negative_prompt: string;
            /**
             * Seed
             * @description Of the picture that was kept: the one most like the child.
             */
            seed: number;
            /**
             * Candidates
             * @description Pictures that it was chosen from; 1 without a face recogniser.
             */
            candidates: number;
            /**
             * Similarity
             * @description Cosine of photo and drawn face, by the recogniser that chose.
             */
            similarity: number | null;
            /**
             * Steps
             * @description Steps of denoising that were run for each.
             */
            steps: number;
        };
        /**
         * Deleted
         * @description What was asked to be removed is gone.
         */
        Deleted: {
            /**
             * Success
             * @default true
             * @constant
             */
            success?: true;
        };
        /**
         * Templates
         * @description All templates, newest first, without their landmarks.
         */
        Templates: {
            /** Templates */
            templates: components["schemas"]["TemplateAnswer"][];
        };
        /**
         * TemplateAnswer
         * @description A stored page and its face slots, best first.
         */
        TemplateAnswer: {
            /** Template Id */
            template_id: string;
            /** Name */
            name: string | null;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Width */
            width: number;
            /** Height */
            height: number;
            /** Image Url */
            image_url: string;
            /** Slots */
            slots: components["schemas"]["Slot"][];
        };
        /**
         * Slot
         * @description A face of a page. PUT /templates/{template_id}/slots takes what GET /templates/{template_id} shows.
         */
        Slot: {
            /**
             * Bbox
             * @description x1, y1, x2, y2 in pixels of the upright page.
             */
            bbox: number[];
            /**
             * Kps
             * @description Left eye, right eye, nose, left and right mouth corner, as seen.
             */
            kps: number[][];
            /**
             * Score
             * @description How sure it is that this is the face to replace, 0 to 1.
             */
            score: number;
            /** Roll Deg */
            roll_deg: number;
            /** Yaw Deg */
            yaw_deg: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * TryOnAccepted
         * @description The job will be done.
         */
        TryOnAccepted: {
            /**
             * Job Id
             * Format: uuid
             */
            job_id: string;
            /**
             * Status
             * @enum {string}
             */
            status: "QUEUED" | "PROCESSING" | "DONE" | "FAILED" | "CANCELLED";
            /**
             * Message
             * @default Job submitted successfully
             */
            message?: string;
        };
        /**
         * TryOnStatus
         * @description Where the job stands. GET /api/v1/jobs/{job_id}/events tells the same job's changes as they happen.
         */
        TryOnStatus: {
            /**
             * Job Id
             * Format: uuid
             */
            job_id: string;
            /**
             * Status
             * @enum {string}
             */
            status: "QUEUED" | "PROCESSING" | "DONE" | "FAILED" | "CANCELLED";
            /**
             * Stage
             * @description What is being done: load, segmentation, pose, garment, alignment, quality, finish, generation (the image model's picture), storage. Null while nothing is.
             * @example alignment
             */
            stage: string | null;
            /**
             * Progress
             * @description 0 to 1.
             */
            progress: number;
            /**
             * Result Image Url
             * @description Where the picture is, once it is DONE.
             */
            result_image_url: string | null;
            /**
             * Quality Score
             * @description `quality.score`, 0 to 1; of the draft, in final mode too.
             */
            quality_score: number | null;
            /**
             * Retry Count
             * @description Attempts at the draft after the first one.
             */
            retry_count: number | null;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Completed At
             * @description When it was DONE, FAILED or CANCELLED.
             */
            completed_at: string | null;
            /**
             * Error Code
             * @description Why it FAILED.
             * @example POSE_FAILED
             */
            error_code: string | null;
            /**
             * Error Message
             * @description The same as a sentence that says what to do.
             */
            error_message: string | null;
            /** @description Every term of the score. */
            quality: components["schemas"]["TryOnQuality"] | null;
            /** @description What else is known of the picture; null until it is DONE. */
            details: components["schemas"]["TryOnDetails"] | null;
            /**
             * Provider Fallback
             * @description Whether a final try-on gave its draft; null until it is DONE.
             */
            provider_fallback: boolean | null;
            /**
             * Artifacts Url
             * @description A ZIP of masks, keypoints and draft, where they were kept.
             */
            artifacts_url: string | null;
        };
        /**
         * TryOnQuality
         * @description How well the draft fits, in what can be measured without knowing the right answer.
         */
        TryOnQuality: {
            /**
             * Score
             * @description 0 to 1: the weighted mean of all terms' scores, halved where the worst is 0.
             * @example 0.93
             */
            score: number;
            /**
             * Passed
             * @description Whether the score reaches `threshold`.
             */
            passed: boolean;
            /**
             * Threshold
             * @description QUALITY_THRESHOLD.
             * @example 0.7
             */
            threshold: number;
            /**
             * Failed
             * @description Terms that alone fail the draft.
             */
            failed: string[];
            /** Terms */
            terms: {
                [key: string]: components["schemas"]["QualityTerm"];
            };
        };
        /**
         * QualityTerm
         * @description One measure of a draft; docs/tryon.md says what each one is.
         */
        QualityTerm: {
            /**
             * Value
             * @description As measured.
             */
            value: number;
            /**
             * Score
             * @description 1 at `good` and beyond, 0 at `bad` and beyond, linear between them.
             */
            score: number;
            /**
             * Weight
             * @description Its share of the whole score.
             */
            weight: number;
            /** Good */
            good: number;
            /** Bad */
            bad: number;
            /**
             * Gate
             * @description Whether a score of 0 alone fails the draft: the whole is 0.49 at most then.
             */
            gate: boolean;
        };
        /**
         * TryOnDetails
         * @description What was made, and how.
         */
        TryOnDetails: {
            /**
             * Mode
             * @enum {string}
             */
            mode: "draft" | "final";
            /**
             * Media Type
             * @example image/png
             */
            media_type: string;
            /**
             * Width
             * @description Pixels: the photo's own, at most 3072 a side.
             */
            width: number;
            /** Height */
            height: number;
            /**
             * Garment Type
             * @description As given, or as it was recognised.
             * @example tshirt
             * @enum {string}
             */
            garment_type: "tshirt" | "shirt" | "longsleeve" | "hoodie" | "jacket" | "dress" | "pants" | "shorts" | "skirt" | "auto";
            /**
             * Attempts
             * @description All attempts at the draft, the first one first.
             */
            attempts: components["schemas"]["TryOnAttempt"][];
            /**
             * Warnings
             * @description What was guessed, such as a sleeve whose elbow is hidden.
             */
            warnings: string[];
            /**
             * Provider Fallback
             * @description Whether a final try-on gave its draft: the image model gave nothing.
             */
            provider_fallback: boolean;
            /**
             * Provider Fallback Reason
             * @description Why; see docs/image-model.md.
             */
            provider_fallback_reason: ("NO_KEY" | "FORBIDDEN" | "CANCELLED" | "BUSY" | "CIRCUIT_OPEN" | "TIMEOUT" | "UNAVAILABLE" | "RATE_LIMITED" | "QUOTA_EXHAUSTED" | "CREDIT_EXHAUSTED" | "CONFIG_ERROR" | "MODEL_GONE" | "REQUEST_REFUSED" | "CONTENT_BLOCKED" | "NO_IMAGE" | "TRUNCATED" | "BAD_RESPONSE" | "CHECK_FAILED") | null;
            /**
             * Provider Fallback Detail
             * @description The same as a sentence.
             */
            provider_fallback_detail: string | null;
            /** @description Null for drafts. */
            generated_by: components["schemas"]["GeneratedBy"] | null;
            /**
             * Artifacts
             * @description What GET /api/tryon/artifacts/{job_id} gives; see SAVE_DEBUG_ARTIFACTS.
             */
            artifacts: string[];
            /**
             * Timings Ms
             * @description Milliseconds of each stage.
             */
            timings_ms: {
                [key: string]: number;
            };
        };
        /**
         * TryOnAttempt
         * @description One attempt at the draft; the best is kept.
         */
        TryOnAttempt: {
            /**
             * Change
             * @description What was done differently.
             * @example a stiffer net and a closer fit
             */
            change: string;
            /** Score */
            score: number;
        };
        /**
         * GeneratedBy
         * @description The image model's picture that was taken.
         */
        GeneratedBy: {
            /**
             * Model
             * @example gemini-nano-banana-2.1
             */
            model: string;
            /**
             * Attempts
             * @description Requests that were sent; each may be paid for.
             */
            attempts: number;
            /** Latency S */
            latency_s: number;
            /**
             * Width
             * @description Of the model's own picture, in pixels, before it was brought to the photo's size.
             */
            width: number;
            /** Height */
            height: number;
        };
        /**
         * JobRemoved
         * @description What became of the job.
         */
        JobRemoved: {
            /**
             * Success
             * @default true
             * @constant
             */
            success?: true;
            /**
             * Job Id
             * Format: uuid
             */
            job_id: string;
            /**
             * Outcome
             * @description cancelled: it had not begun. cancelling: it stops shortly. deleted: it had finished, and is gone.
             * @enum {string}
             */
            outcome: "cancelled" | "cancelling" | "deleted";
        };
        /**
         * ContourAnswer
         * @description The file in base64, and what is known of it.
         */
        ContourAnswer: {
            /**
             * Status
             * @constant
             */
            status: "completed";
            /**
             * Output
             * @enum {string}
             */
            output: "svg" | "png" | "json";
            /**
             * Media Type
             * @example image/svg+xml
             */
            media_type: string;
            /**
             * Result
             * @description The file in base64: the same bytes that a job or `Accept: image/svg+xml` gives.
             */
            result: string;
            contours: components["schemas"]["ContourDocument"];
        };
        /**
         * ContourDocument
         * @description The contours of one face. With `output=json` the file is this document.
         */
        ContourDocument: {
            /**
             * Schema
             * @example facial-contours/1
             */
            schema: string;
            /** Generator */
            generator: string;
            /**
             * Source Sha256
             * @description Of the photo's bytes.
             */
            source_sha256: string;
            /**
             * Landmarks
             * @enum {string}
             */
            landmarks: "given" | "found";
            /**
             * Width
             * @description Of the canvas, in pixels.
             */
            width: number;
            /** Height */
            height: number;
            /**
             * Coordinate Space
             * @description crop: the face cut out; rotated: the whole photo turned upright; source: the photo as it is.
             * @enum {string}
             */
            coordinate_space: "crop" | "rotated" | "source";
            transform: components["schemas"]["Transform"];
            pose: components["schemas"]["Pose"];
            /**
             * Face Px
             * @description Longer side of the face oval in the photo, in pixels.
             */
            face_px: number;
            /**
             * Label Scheme
             * @description How the map was read.
             */
            label_scheme: ("celebamask19" | "parsing11") | null;
            /** Regions */
            regions: components["schemas"]["ContourRegion"][];
            /** Warnings */
            warnings: string[];
        };
        /**
         * Transform
         * @description One turn, scale and shift between the upright photo and the canvas; pixel (i, j) covers [i, i+1) x [j, j+1).
         */
        Transform: {
            /**
             * Source To Canvas
             * @description 2x3: x' = a x + b y + c, y' = d x + e y + f.
             */
            source_to_canvas: number[][];
            /**
             * Canvas To Source
             * @description 2x3: x' = a x + b y + c, y' = d x + e y + f.
             */
            canvas_to_source: number[][];
            /**
             * Roll Deg
             * @description How far the head was turned clockwise before it was levelled, in degrees.
             */
            roll_deg: number;
            /**
             * Scale
             * @description Canvas pixels per pixel of the photo.
             */
            scale: number;
        };
        /**
         * Pose
         * @description Degrees. Yaw > 0 looks right in the picture, pitch > 0 down, roll > 0 is tilted clockwise.
         */
        Pose: {
            /** Yaw Deg */
            yaw_deg: number;
            /** Pitch Deg */
            pitch_deg: number;
            /** Roll Deg */
            roll_deg: number;
            /**
             * Frontal
             * @description Whether yaw and pitch are at most 25 degrees.
             */
            frontal: boolean;
        };
        /**
         * ContourRegion
         * @description One region; lengths and places in pixels of the canvas.
         */
        ContourRegion: {
            /**
             * Id
             * @description Right and left are the subject's own.
             * @example cheek_left
             */
            id: string;
            /**
             * Label
             * @example Left cheek
             */
            label: string;
            /**
             * Color
             * @description Its colour in the palette, as #rrggbb.
             * @example #d977a8
             */
            color: string;
            /** Available */
            available: boolean;
            /**
             * Reason
             * @description Why it isn't available.
             */
            reason: string | null;
            /**
             * Source
             * @description Where its border is from.
             */
            source: ("map" | "landmarks" | "both") | null;
            /**
             * Nodes
             * @description Nodes of its curves.
             */
            nodes: number;
            /**
             * Area
             * @description Square pixels; null for a line.
             */
            area: number | null;
            /**
             * Length
             * @description Pixels; of a line only.
             */
            length: number | null;
            /** Centroid */
            centroid: number[] | null;
            /**
             * Bbox
             * @description x1, y1, x2, y2.
             */
            bbox: number[] | null;
            /** Holes */
            holes: number;
            /**
             * Path
             * @description SVG path data, with `output=json`.
             */
            path?: string | null;
            /**
             * Polygons
             * @description Within 0.1 pixel of the path, with `output=json`.
             */
            polygons?: components["schemas"]["RegionPolygon"][] | null;
            /**
             * Lines
             * @description Of an open line (`jawline`), with `output=json`.
             */
            lines?: number[][][] | null;
        };
        /**
         * RegionPolygon
         * @description A closed outline and the holes in it; the first point is repeated at the end.
         */
        RegionPolygon: {
            /** Exterior */
            exterior: number[][];
            /** Holes */
            holes: number[][][];
        };
        /** Body_compare_images_api_v1_compare_images_post */
        Body_compare_images_api_v1_compare_images_post: {
            /**
             * File A
             * @description A picture. It is not stored.
             */
            file_a: string;
            /**
             * File B
             * @description The picture to compare it with. It is not stored.
             */
            file_b: string;
            /**
             * Face A
             * @description Which face: `largest`, `center` (the nearest to the middle of the picture), or its number in the list of faces, 0 being the largest.
             * @default largest
             * @example largest
             */
            face_a?: ("largest" | "center") | number;
            /**
             * Face B
             * @description Which face: `largest`, `center` (the nearest to the middle of the picture), or its number in the list of faces, 0 being the largest.
             * @default largest
             * @example largest
             */
            face_b?: ("largest" | "center") | number;
            /**
             * Det Threshold
             * @description Least confidence of a detected face. Default: FACE_DET_THRESH.
             * @example 0.5
             */
            det_threshold?: number | null;
            /**
             * Threshold
             * @description Least cosine similarity of a match. Default: the model's own threshold.
             * @example 0.4
             */
            threshold?: number | null;
        };
        /**
         * ImagesCompared
         * @description How alike the chosen faces of two pictures are.
         */
        ImagesCompared: {
            /**
             * Similarity
             * @description Cosine of the two embeddings, -1 to 1. Not a probability.
             * @example 0.85
             */
            similarity: number;
            /**
             * Distance
             * @description 1 - similarity.
             * @example 0.15
             */
            distance: number;
            /**
             * Is Match
             * @description similarity >= threshold; null where no threshold is known.
             */
            is_match: boolean | null;
            /**
             * Metric
             * @default cosine
             * @constant
             */
            metric?: "cosine";
            /**
             * Model
             * @description The face model. Only embeddings of one model can be compared.
             * @example buffalo_l
             */
            model: string;
            /**
             * Model Sha256
             * @description SHA-256 (hex) of the recogniser's weights; null where there is no recogniser.
             */
            model_sha256: string | null;
            /**
             * Threshold
             * @description Cosine similarity from which on two embeddings are taken for one person; null where nobody measured it for this model.
             * @example 0.4
             */
            threshold: number | null;
            /**
             * Threshold Source
             * @description Where `threshold` comes from, or why it is null.
             */
            threshold_source: string;
            /** @description The chosen face of `file_a`. */
            face_a: components["schemas"]["ComparedFace"];
            /** @description The chosen face of `file_b`. */
            face_b: components["schemas"]["ComparedFace"];
        };
        /**
         * ComparedFace
         * @description The chosen face of one of two pictures.
         */
        ComparedFace: {
            /**
             * Index
             * @description Its number in the list of faces, 0 being the largest.
             * @example 0
             */
            index: number;
            /**
             * Confidence
             * @description The detector's confidence, 0 to 1; no similarity.
             * @example 0.99
             */
            confidence: number;
            /**
             * Bbox
             * @description x1, y1, x2, y2 in pixels of the upright picture.
             * @example [
             *       100,
             *       150,
             *       200,
             *       250
             *     ]
             */
            bbox: number[];
            /**
             * Kps
             * @description x, y in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture.
             * @example [
             *       [
             *         120,
             *         190
             *       ],
             *       [
             *         160,
             *         190
             *       ],
             *       [
             *         140,
             *         210
             *       ],
             *       [
             *         125,
             *         230
             *       ],
             *       [
             *         155,
             *         230
             *       ]
             *     ]
             */
            kps: number[][];
            /**
             * Faces Found
             * @description All faces of the picture. More than one? `face` chooses.
             * @example 1
             */
            faces_found: number;
            /**
             * Rotation Applied
             * @description Degrees clockwise by which the picture had to be turned, after its EXIF orientation, before a face was found. Boxes and points are those of the picture as it was.
             * @enum {integer}
             */
            rotation_applied: 0 | 90 | 180 | 270;
            /**
             * Image Shape
             * @description Height, width and channels of the upright picture.
             * @example [
             *       720,
             *       1280,
             *       3
             *     ]
             */
            image_shape: number[];
            /**
             * Det Threshold
             * @description Least confidence of a detected face that was applied.
             * @example 0.5
             */
            det_threshold: number;
        };
        /**
         * ErrorAnswer
         * @description Every failure.
         */
        ErrorAnswer: {
            /**
             * Detail
             * @description What is wrong and what to do.
             */
            detail: string;
            /**
             * Code
             * @description Stays the same whatever the sentence says.
             * @example IMAGE_UNREADABLE
             */
            code: string;
            /**
             * Request Id
             * @description To look for in the service's log; the X-Request-ID header is the same.
             */
            request_id: string | null;
            /**
             * Errors
             * @description Only with VALIDATION_ERROR: every field that is wrong.
             */
            errors?: components["schemas"]["FieldFault"][] | null;
        };
        /**
         * FieldFault
         * @description What is wrong with one field.
         */
        FieldFault: {
            /**
             * Loc
             * @description Where: `body`, the field's name, and so on.
             * @example [
             *       "body",
             *       "face"
             *     ]
             */
            loc: (number | string)[];
            /**
             * Msg
             * @description What is wrong with it.
             * @example Input should be a finite number
             */
            msg: string;
            /**
             * Type
             * @description A code that stays the same.
             * @example finite_number
             */
            type: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    personalize_personalize_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description `image/png` answers with the picture, else JSON. */
                accept?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": components["schemas"]["Body_personalize_personalize_post"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Personalized"];
                    "image/png": unknown;
                    "image/jpeg": unknown;
                    "image/webp": unknown;
                };
            };
        };
    };
    download_download__file_id__get: {
        parameters: {
            query?: never;
            header?: {
                "if-none-match"?: string | null;
            };
            path: {
                file_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": unknown;
                    "image/jpeg": unknown;
                    "image/webp": unknown;
                };
            };
        };
    };
    delete_file_download__file_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                file_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deleted"];
                };
            };
        };
    };
    list_templates_templates_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Templates"];
                };
            };
        };
    };
    get_template_image_templates__template_id__image_get: {
        parameters: {
            query?: never;
            header?: {
                "if-none-match"?: string | null;
            };
            path: {
                template_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    submit_try_on_api_tryon_submit_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description A text of your choice: the same one with the same request gives the same job. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": {
                    /**
                     * Format: binary
                     * @description The photo of the person, standing, seen from the front, from the head or mouth to the hips at least: base64, with or without `data:image/...;base64,`; in a multipart form the file.
                     */
                    user_image?: string;
                    /**
                     * User Image Url
                     * @description The same as an http(s) URL, read at once. One of both.
                     * @example https://example.com/person.jpg
                     */
                    user_image_url?: string | null;
                    /**
                     * Format: binary
                     * @description The photo of the garment alone, laid flat or on an invisible mannequin, before a plain background or transparent: base64, or the file.
                     */
                    product_image?: string;
                    /**
                     * Product Image Url
                     * @description The same as an http(s) URL. One of both.
                     * @example https://example.com/tshirt.png
                     */
                    product_image_url?: string | null;
                    /**
                     * Garment Type
                     * @description `auto` tells it from the garment's outline.
                     * @default auto
                     * @enum {string}
                     */
                    garment_type?: "tshirt" | "shirt" | "longsleeve" | "hoodie" | "jacket" | "dress" | "pants" | "shorts" | "skirt" | "auto";
                    /**
                     * Preserve Face
                     * @description The face's pixels stay the photo's. false lets a high collar or a hood lie over the chin.
                     * @default true
                     */
                    preserve_face?: boolean;
                    /**
                     * Preserve Background
                     * @description What is neither the old nor the new garment, nor the person, stays the photo's.
                     * @default true
                     */
                    preserve_background?: boolean;
                    /**
                     * Realism Level
                     * @description 1: the garment laid in behind head, hair, hands and bare arms. 2: the old one painted over too. 3: and in the photo's light. 4: and with the shadows of arms, sleeves, collar and hem. 5: and with the folds of the worn garment pressed through. In final mode also how freely the image model may draw.
                     * @default 3
                     */
                    realism_level?: number;
                    /**
                     * Max Retries
                     * @description Further attempts: at the draft while it scores below QUALITY_THRESHOLD, each done differently; and at the image model's picture, each of which may be paid for.
                     * @default 2
                     */
                    max_retries?: number;
                    /**
                     * Seed
                     * @description The same input and seed give the same draft, byte for byte.
                     * @default 0
                     */
                    seed?: number;
                    /**
                     * Require Quality
                     * @description A draft that scores below QUALITY_THRESHOLD after all attempts is QUALITY_CHECK_FAILED.
                     * @default false
                     */
                    require_quality?: boolean;
                    /**
                     * Format
                     * @description png (lossless, the default), jpeg or webp.
                     */
                    format?: ("png" | "jpeg" | "webp") | null;
                    /**
                     * Mode
                     * @description final has a hosted image model make a photograph of the draft: the person's photo is sent to a third party. draft never leaves this service.
                     * @default final
                     * @enum {string}
                     */
                    mode?: "draft" | "final";
                    /**
                     * Allow Fallback
                     * @description Where the image model gives nothing that can be used, give the draft, and say so in `provider_fallback`. false fails with NANO_API_ERROR.
                     * @default true
                     */
                    allow_fallback?: boolean;
                    /**
                     * Webhook Url
                     * @description Told when the job has finished, by a signed POST; see the README.
                     */
                    webhook_url?: string | null;
                };
                "application/json": {
                    /**
                     * User Image
                     * @description The photo of the person, standing, seen from the front, from the head or mouth to the hips at least: base64, with or without `data:image/...;base64,`; in a multipart form the file.
                     * @example data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD...
                     */
                    user_image?: string | null;
                    /**
                     * User Image Url
                     * @description The same as an http(s) URL, read at once. One of both.
                     * @example https://example.com/person.jpg
                     */
                    user_image_url?: string | null;
                    /**
                     * Product Image
                     * @description The photo of the garment alone, laid flat or on an invisible mannequin, before a plain background or transparent: base64, or the file.
                     * @example data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD...
                     */
                    product_image?: string | null;
                    /**
                     * Product Image Url
                     * @description The same as an http(s) URL. One of both.
                     * @example https://example.com/tshirt.png
                     */
                    product_image_url?: string | null;
                    /**
                     * Garment Type
                     * @description `auto` tells it from the garment's outline.
                     * @default auto
                     * @enum {string}
                     */
                    garment_type?: "tshirt" | "shirt" | "longsleeve" | "hoodie" | "jacket" | "dress" | "pants" | "shorts" | "skirt" | "auto";
                    /**
                     * Preserve Face
                     * @description The face's pixels stay the photo's. false lets a high collar or a hood lie over the chin.
                     * @default true
                     */
                    preserve_face?: boolean;
                    /**
                     * Preserve Background
                     * @description What is neither the old nor the new garment, nor the person, stays the photo's.
                     * @default true
                     */
                    preserve_background?: boolean;
                    /**
                     * Realism Level
                     * @description 1: the garment laid in behind head, hair, hands and bare arms. 2: the old one painted over too. 3: and in the photo's light. 4: and with the shadows of arms, sleeves, collar and hem. 5: and with the folds of the worn garment pressed through. In final mode also how freely the image model may draw.
                     * @default 3
                     */
                    realism_level?: number;
                    /**
                     * Max Retries
                     * @description Further attempts: at the draft while it scores below QUALITY_THRESHOLD, each done differently; and at the image model's picture, each of which may be paid for.
                     * @default 2
                     */
                    max_retries?: number;
                    /**
                     * Seed
                     * @description The same input and seed give the same draft, byte for byte.
                     * @default 0
                     */
                    seed?: number;
                    /**
                     * Require Quality
                     * @description A draft that scores below QUALITY_THRESHOLD after all attempts is QUALITY_CHECK_FAILED.
                     * @default false
                     */
                    require_quality?: boolean;
                    /**
                     * Format
                     * @description png (lossless, the default), jpeg or webp.
                     */
                    format?: ("png" | "jpeg" | "webp") | null;
                    /**
                     * Mode
                     * @description final has a hosted image model make a photograph of the draft: the person's photo is sent to a third party. draft never leaves this service.
                     * @default final
                     * @enum {string}
                     */
                    mode?: "draft" | "final";
                    /**
                     * Allow Fallback
                     * @description Where the image model gives nothing that can be used, give the draft, and say so in `provider_fallback`. false fails with NANO_API_ERROR.
                     * @default true
                     */
                    allow_fallback?: boolean;
                    /**
                     * Webhook Url
                     * @description Told when the job has finished, by a signed POST; see the README.
                     */
                    webhook_url?: string | null;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TryOnAccepted"];
                };
            };
        };
    };
    try_on_status_api_tryon_status__job_id__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TryOnStatus"];
                };
            };
        };
    };
    try_on_result_api_tryon_result__job_id__get: {
        parameters: {
            query?: never;
            header?: {
                "if-none-match"?: string | null;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": unknown;
                    "image/jpeg": unknown;
                    "image/webp": unknown;
                };
            };
        };
    };
    cancel_or_delete_try_on_api_tryon__job_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobRemoved"];
                };
            };
        };
    };
    frontal_crop_api_v1_frontal_crop_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description `image/svg+xml` or `image/png` answers with the file, else JSON. */
                accept?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * Image
                     * @description The photo in base64, with or without `data:image/...;base64,`; in a multipart form the file.
                     * @example data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD...
                     */
                    image?: string | null;
                    /**
                     * Landmarks
                     * @description The 468 or 478 points of MediaPipe's face mesh, in its order, as `{x, y}` or `[x, y]`: pixels of the upright photo, or fractions of its width and height where all lie in 0..1. One list, or a list of one list. Left out, the largest face's are found. In a form: the same as JSON text.
                     * @example [
                     *       {
                     *         "x": 482.63,
                     *         "y": 732.62
                     *       },
                     *       {
                     *         "x": 515.77,
                     *         "y": 661.9
                     *       }
                     *     ]
                     */
                    landmarks?: {
                        x: number;
                        y: number;
                    }[];
                    /**
                     * Segmentation Map
                     * @description A face parser's label map of the whole photo in base64: a PNG, BMP, TIFF or GIF whose grey values or palette indices are class numbers, of any size, or a byte per pixel at the photo's size. In a multipart form the file. Without one there is no hairline, neck, ear, hair or glasses.
                     */
                    segmentation_map?: string | null;
                    /**
                     * Label Scheme
                     * @description The map's class order; `auto` takes the one that agrees with the landmarks.
                     * @default auto
                     * @enum {string}
                     */
                    label_scheme?: "auto" | "celebamask19" | "parsing11";
                    /**
                     * Regions
                     * @description Ids of the regions that are wanted: face_oval, face_mask, forehead, t_zone, nose, cheek_right, cheek_left, under_eye_right, under_eye_left, eye_right, eye_left, brow_right, brow_left, lips, lip_upper, lip_lower, mouth_inner, chin, jawline, neck, ear_right, ear_left, hair, glasses. Default: all.
                     * @default [
                     *       "face_oval",
                     *       "face_mask",
                     *       "forehead",
                     *       "t_zone",
                     *       "nose",
                     *       "cheek_right",
                     *       "cheek_left",
                     *       "under_eye_right",
                     *       "under_eye_left",
                     *       "eye_right",
                     *       "eye_left",
                     *       "brow_right",
                     *       "brow_left",
                     *       "lips",
                     *       "lip_upper",
                     *       "lip_lower",
                     *       "mouth_inner",
                     *       "chin",
                     *       "jawline",
                     *       "neck",
                     *       "ear_right",
                     *       "ear_left",
                     *       "hair",
                     *       "glasses"
                     *     ]
                     */
                    regions?: string[];
                    /**
                     * Autorotate
                     * @description Turn the picture until the eyes are level.
                     * @default true
                     */
                    autorotate?: boolean;
                    /**
                     * Crop
                     * @description Cut the face out as a square; false keeps the whole photo.
                     * @default true
                     */
                    crop?: boolean;
                    /**
                     * Size
                     * @description Pixels of the square's side, with `crop`.
                     * @default 1024
                     */
                    size?: number;
                    /**
                     * Smoothing
                     * @description 0 follows every bend of a border, 1 keeps the large ones with the fewest nodes.
                     * @default 0.5
                     */
                    smoothing?: number;
                    /**
                     * Output
                     * @description The file in `result`. `Accept: image/svg+xml` or `image/png` takes precedence.
                     * @default svg
                     * @enum {string}
                     */
                    output?: "svg" | "png" | "json";
                    /**
                     * Png
                     * @description What a PNG shows: `mask` (palette indices: a region's place in the list above, from 1), `overlay` (regions over the photo), or `photo` (the turned and cut photo alone).
                     * @default mask
                     * @enum {string}
                     */
                    png?: "mask" | "overlay" | "photo";
                    /**
                     * Fill
                     * @description `palette`, `none`, or a colour as #rrggbb.
                     * @default palette
                     */
                    fill?: string;
                    /**
                     * Fill Opacity
                     * @description 0 to 1.
                     * @default 0.35
                     */
                    fill_opacity?: number;
                    /**
                     * Stroke
                     * @description `palette`, `none`, or a colour as #rrggbb.
                     * @default palette
                     */
                    stroke?: string;
                    /**
                     * Stroke Width
                     * @description Pixels of the canvas.
                     * @default 1.5
                     */
                    stroke_width?: number;
                };
                "multipart/form-data": {
                    /**
                     * Format: binary
                     * @description The photo in base64, with or without `data:image/...;base64,`; in a multipart form the file.
                     */
                    image: string;
                    /** @description The 468 or 478 points of MediaPipe's face mesh, in its order, as `{x, y}` or `[x, y]`: pixels of the upright photo, or fractions of its width and height where all lie in 0..1. One list, or a list of one list. Left out, the largest face's are found. In a form: the same as JSON text. */
                    landmarks?: string;
                    /**
                     * Format: binary
                     * @description A face parser's label map of the whole photo in base64: a PNG, BMP, TIFF or GIF whose grey values or palette indices are class numbers, of any size, or a byte per pixel at the photo's size. In a multipart form the file. Without one there is no hairline, neck, ear, hair or glasses.
                     */
                    segmentation_map?: string;
                    /**
                     * Label Scheme
                     * @description The map's class order; `auto` takes the one that agrees with the landmarks.
                     * @default auto
                     * @enum {string}
                     */
                    label_scheme?: "auto" | "celebamask19" | "parsing11";
                    /**
                     * Regions
                     * @description Ids of the regions that are wanted: face_oval, face_mask, forehead, t_zone, nose, cheek_right, cheek_left, under_eye_right, under_eye_left, eye_right, eye_left, brow_right, brow_left, lips, lip_upper, lip_lower, mouth_inner, chin, jawline, neck, ear_right, ear_left, hair, glasses. Default: all.
                     * @default [
                     *       "face_oval",
                     *       "face_mask",
                     *       "forehead",
                     *       "t_zone",
                     *       "nose",
                     *       "cheek_right",
                     *       "cheek_left",
                     *       "under_eye_right",
                     *       "under_eye_left",
                     *       "eye_right",
                     *       "eye_left",
                     *       "brow_right",
                     *       "brow_left",
                     *       "lips",
                     *       "lip_upper",
                     *       "lip_lower",
                     *       "mouth_inner",
                     *       "chin",
                     *       "jawline",
                     *       "neck",
                     *       "ear_right",
                     *       "ear_left",
                     *       "hair",
                     *       "glasses"
                     *     ]
                     */
                    regions?: string[];
                    /**
                     * Autorotate
                     * @description Turn the picture until the eyes are level.
                     * @default true
                     */
                    autorotate?: boolean;
                    /**
                     * Crop
                     * @description Cut the face out as a square; false keeps the whole photo.
                     * @default true
                     */
                    crop?: boolean;
                    /**
                     * Size
                     * @description Pixels of the square's side, with `crop`.
                     * @default 1024
                     */
                    size?: number;
                    /**
                     * Smoothing
                     * @description 0 follows every bend of a border, 1 keeps the large ones with the fewest nodes.
                     * @default 0.5
                     */
                    smoothing?: number;
                    /**
                     * Output
                     * @description The file in `result`. `Accept: image/svg+xml` or `image/png` takes precedence.
                     * @default svg
                     * @enum {string}
                     */
                    output?: "svg" | "png" | "json";
                    /**
                     * Png
                     * @description What a PNG shows: `mask` (palette indices: a region's place in the list above, from 1), `overlay` (regions over the photo), or `photo` (the turned and cut photo alone).
                     * @default mask
                     * @enum {string}
                     */
                    png?: "mask" | "overlay" | "photo";
                    /**
                     * Fill
                     * @description `palette`, `none`, or a colour as #rrggbb.
                     * @default palette
                     */
                    fill?: string;
                    /**
                     * Fill Opacity
                     * @description 0 to 1.
                     * @default 0.35
                     */
                    fill_opacity?: number;
                    /**
                     * Stroke
                     * @description `palette`, `none`, or a colour as #rrggbb.
                     * @default palette
                     */
                    stroke?: string;
                    /**
                     * Stroke Width
                     * @description Pixels of the canvas.
                     * @default 1.5
                     */
                    stroke_width?: number;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ContourAnswer"];
                    "image/svg+xml": unknown;
                    "image/png": unknown;
                };
            };
        };
    };
    compare_images_api_v1_compare_images_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": components["schemas"]["Body_compare_images_api_v1_compare_images_post"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ImagesCompared"];
                };
            };
        };
    };
}
